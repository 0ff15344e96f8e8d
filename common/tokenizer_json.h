#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/vocabulary.h"

namespace krait {

// What tokenizer.json itself says: no special ids, no template. `path` is for messages. Not yet
// validated as a whole: see ValidateVocabulary. INVALID_ARGUMENT names the file and the field.
absl::StatusOr<Vocabulary> ReadTokenizerJson(const std::string& path, const JsonValue& tokenizer);

}  // namespace krait
