#pragma once

#include "absl/status/statusor.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// A GGUF file's metadata, and what its tensors announce: biases, an untied head, rope_freqs (the
// one tensor that is read). What no field alone can say is not checked yet. INVALID_ARGUMENT names
// file, key or tensor, and value.
absl::StatusOr<ModelConfig> ReadGgufConfig(const Checkpoint& checkpoint);

}  // namespace krait
