#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "worker/sampling/row_state.h"
#include "worker/sampling/shard_exchange.h"

namespace krait {

// Of each row the `wanted` largest logits of every rank, merged in falling order. Rows that are not
// finite have none. Fails only if the gather fails.
absl::StatusOr<std::vector<std::vector<Candidate>>> TopOfAllRanks(Backend* backend,
                                                                  const ShardExchange& exchange,
                                                                  const RowStates& rows);

// Beyond `wanted` a merged list may have gaps, since a rank sent no more: drops what lies there.
void CutGaps(int wanted, std::vector<Candidate>& list);

}  // namespace krait
