#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"

namespace krait {

struct ModelTensor {
  std::string name;  // Hugging Face name
  std::vector<int64_t> shape;
};

// Everything a model of `config` is made of, layer tensors of `layer` only.
std::vector<ModelTensor> LayerTensors(const ModelConfig& config, int64_t layer);
// Embedding, final norm, head, a draft's token map.
std::vector<ModelTensor> GlobalTensors(const ModelConfig& config);

// Every tensor of the model is in the checkpoint with its shape, and nothing else is.
// NOT_FOUND or INVALID_ARGUMENT names file, tensor and reason.
absl::Status CheckModelTensors(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace krait
