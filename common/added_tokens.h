#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/json.h"
#include "common/vocabulary.h"

namespace krait {

// Tokens that a folder without tokenizer.json adds to those of its tokenizer.model: appends what
// `tokenizer_config` (the folder's tokenizer_config.json) lists in added_tokens_decoder.
// INVALID_ARGUMENT names file and token: ids that are not the next ones, what contradicts a piece,
// spaces taken along, and a token of added_tokens.json that is nowhere else.
absl::Status ReadAddedTokens(const std::string& folder, const JsonValue& tokenizer_config,
                             Vocabulary& vocabulary);

}  // namespace krait
