#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/vocabulary.h"

namespace krait {

// The vocabulary of a Hugging Face model folder: tokenizer.json (required), tokenizer_config.json,
// generation_config.json, config.json, chat_template.jinja. Not yet validated as a whole: see
// ValidateVocabulary. INVALID_ARGUMENT names the file and the field.
absl::StatusOr<Vocabulary> ReadFolderVocabulary(const std::string& folder);

// What tokenizer.json itself says: no special ids, no template. `path` is for messages.
absl::StatusOr<Vocabulary> ReadTokenizerJson(const std::string& path, const JsonValue& tokenizer);

}  // namespace krait
