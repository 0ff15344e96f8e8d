#pragma once

#include "absl/status/status.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// Which layers of a checkpoint are Mamba layers, and their numbers (arXiv 2408.15237): fills in
// config.layers, mamba1, mamba2 and which projections are fused. A checkpoint with a tensor
// "model.layers.N.mamba.*" or with mamba_config.json is a hybrid, whatever its config.json calls
// itself: released ones are called Llama or Mistral like their base models. The numbers follow from
// the tensors' shapes, so the absent and null fields of mamba_config.json need no guess; what it
// does say must agree. INVALID_ARGUMENT names file, and field or tensor.
absl::Status LoadHybridLayers(const Checkpoint& checkpoint, ModelConfig& config);

// Whether attention's projections are one tensor, mha.in_proj.
bool HasFusedAttention(const Checkpoint& checkpoint);

// "model.layers.<index>.mamba."
std::string MambaPrefix(int64_t index);

}  // namespace krait
