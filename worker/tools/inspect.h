#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace krait {

// What a model folder or GGUF file holds, as text for people or one JSON document. Reads headers
// and the tokenizer, no weights. Errors as Checkpoint, ModelConfig and Vocabulary give them.
absl::StatusOr<std::string> InspectModel(const std::string& path, bool json);

// `krait-engine inspect PATH [--json]`; argv[0] is the command's name. Returns the exit code.
int RunInspect(int argc, char** argv);

}  // namespace krait
