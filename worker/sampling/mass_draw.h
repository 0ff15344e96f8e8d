#pragma once

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "worker/sampling/row_state.h"
#include "worker/sampling/shard_exchange.h"

namespace krait {

// Draws the tokens of rows whose rule is rejection sampling's (DrawRule::kPropose, kVerify); a
// draft keeps what it drew from. Needs each row's head and total_mass. Fails only if the gather
// fails.
absl::Status DrawByMasses(Backend* backend, const VocabShard& shard, const ShardExchange& exchange,
                          int max_shard_size, const RowStates& rows);

}  // namespace krait
