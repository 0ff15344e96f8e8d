#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "worker/sampling/row_state.h"
#include "worker/sampling/shard_exchange.h"

namespace krait {

// The masses of logits of the row, wherever they lie in it.
std::vector<uint64_t> MassesOf(absl::Span<const Candidate> candidates, const RowState& state);

// Leaves in `top` what the filters of a row leave of it, in falling order: fetches longer and
// longer lists of the largest logits until every row's cut is known, at most `max_shard_size` of a
// rank. Needs each row's head and total_mass. Fails only if the gather fails.
absl::Status CutRows(Backend* backend, const ShardExchange& exchange, int max_shard_size,
                     RowStates rows);

// Cuts rows and draws their tokens with noise. `host` works on the lists, which lie on the host.
absl::Status DrawFiltered(Backend* backend, Backend* host, const ShardExchange& exchange,
                          int max_shard_size, const RowStates& rows);

}  // namespace krait
