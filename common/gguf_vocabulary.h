#pragma once

#include "absl/status/statusor.h"
#include "common/gguf_reader.h"
#include "common/vocabulary.h"

namespace krait {

// The vocabulary in a GGUF file's metadata (tokenizer.ggml.*), not yet validated as a whole: see
// ValidateVocabulary. INVALID_ARGUMENT names the file and the key.
absl::StatusOr<Vocabulary> ReadGgufVocabulary(const GgufHeader& header);

}  // namespace krait
