#pragma once

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "worker/sampling/row_state.h"
#include "worker/sampling/shard_exchange.h"

namespace krait {

// Logprobs are of the raw logits, so they are read twice: before any processor, each row's largest
// logits (raw_top) and this rank's part of its log-sum-exp (head.raw_mass) ...
absl::Status ReadRawLogits(Backend* backend, const ShardExchange& exchange, const RowStates& rows);

// ... and once the tokens are drawn and the heads are everyone's, into token.logprobs. Both fail
// only if the gather fails.
absl::Status FillLogprobs(Backend* backend, const VocabShard& shard, const ShardExchange& exchange,
                          const RowStates& rows);

}  // namespace krait
