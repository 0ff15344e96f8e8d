#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace krait {

// What a model folder or GGUF file holds, as text for people or one JSON document. Reads headers
// and the tokenizer, no weights. Errors as Checkpoint, ModelConfig and Vocabulary give them.
absl::StatusOr<std::string> InspectModel(const std::string& path, bool json);

}  // namespace krait
