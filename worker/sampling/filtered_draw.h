#pragma once

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "worker/sampling/row_state.h"
#include "worker/sampling/shard_exchange.h"

namespace krait {

// Draws the tokens of rows with top_k or top_p: fetches longer and longer lists of the largest
// logits until every row's cut is known, at most `max_shard_size` of a rank. Needs each row's head
// and total_mass. `host` works on the lists, which lie on the host. Fails only if the gather fails.
absl::Status DrawFiltered(Backend* backend, Backend* host, const ShardExchange& exchange,
                          int max_shard_size, RowStates rows);

}  // namespace krait
