#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/vocabulary.h"

namespace krait {

// The vocabulary of a Hugging Face model folder: tokenizer.json or, without one, tokenizer.model;
// tokenizer_config.json, generation_config.json, config.json, chat_template.jinja. Not yet
// validated as a whole: see ValidateVocabulary. INVALID_ARGUMENT names the file and the field.
absl::StatusOr<Vocabulary> ReadFolderVocabulary(const std::string& folder);

}  // namespace krait
