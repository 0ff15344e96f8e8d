#pragma once

// A Vocabulary as the files of a Hugging Face model folder, in the format of the `tokenizers`
// library (https://huggingface.co/docs/tokenizers). Vocabulary::Load reads them back.

#include <string>

#include "absl/status/statusor.h"
#include "common/vocabulary.h"

namespace krait {

// tokenizer.json: either model with added tokens, its rule and decoder. INVALID_ARGUMENT or
// UNIMPLEMENTED names the model, the rule or the pieces (two of one score) that cannot be
// expressed.
absl::StatusOr<std::string> TokenizerJson(const Vocabulary& vocabulary);

// tokenizer_config.json: template, names of the special tokens, add_bos_token.
std::string TokenizerConfigJson(const Vocabulary& vocabulary, int64_t max_context_tokens);

// generation_config.json: the ids that begin, end and pad.
std::string GenerationConfigJson(const Vocabulary& vocabulary);

}  // namespace krait
