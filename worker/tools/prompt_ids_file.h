#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/token.h"

namespace krait {

// Reads prompts from a JSON file: a list of token ids, or a list of such lists. INVALID_ARGUMENT
// names --prompt-ids-file and what it holds instead; NOT_FOUND if it cannot be read. An id outside
// 32 bits becomes one that no vocabulary has.
absl::StatusOr<std::vector<std::vector<TokenId>>> ReadPromptIdsFile(const std::string& path);

}  // namespace krait
