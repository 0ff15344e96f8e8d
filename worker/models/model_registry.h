#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/layers/rank_context.h"
#include "worker/models/causal_lm.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// What a model is made of. Borrowed during the call, except what `context` points to, which
// outlives the model.
struct ModelInputs {
  const ModelConfig& config;
  const Checkpoint& checkpoint;
  RankContext context;
  int page_size = 16;                                // tokens
  int64_t max_positions = 0;                         // of any sequence
  int64_t max_tokens = 0;                            // of one pass
  int64_t max_logits = 0;                            // rows of one pass
  int max_draft_tokens = 0;                          // of a sequence at a time
  std::function<void(double fraction)> on_progress;  // of loading, 0 to 1; may be empty
};

// Makes one rank's share of the model that `config.architecture` names. All tensors' names and
// shapes are checked before memory is taken. INVALID_ARGUMENT or NOT_FOUND names an architecture
// that is not served, or file, tensor and reason; RESOURCE_EXHAUSTED names the bytes.
absl::StatusOr<std::unique_ptr<CausalLM>> MakeModel(const ModelInputs& inputs);

// What of a model decides how it is spread over ranks.
ShardingDims ShardingDimsOf(const ModelConfig& config);

}  // namespace krait
