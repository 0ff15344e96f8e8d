#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/models/model_config.h"

namespace krait {

// A Hugging Face folder's config.json; what no field alone can say is not checked yet.
// `scale_rope`: obey the RoPE scaling that it lists. INVALID_ARGUMENT names file, field and value.
absl::StatusOr<ModelConfig> ReadHuggingFaceConfig(const std::string& path, bool scale_rope);

// What files of `architecture`, which this build serves, call their model_type.
const char* HuggingFaceModelType(const std::string& architecture);

}  // namespace krait
