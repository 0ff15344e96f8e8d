#pragma once

// The splitting rules ("pre-tokenizers") of byte-level BPE vocabularies that are served, by the
// names that GGUF files use for them.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/json.h"

namespace krait {

struct SplittingRule {
  std::string_view name;  // canonical
  // A word that is a piece becomes that piece, whatever the merges say.
  bool whole_words_first;
};

// By name or alias. INVALID_ARGUMENT lists the rules that are known.
absl::StatusOr<SplittingRule> FindSplittingRule(std::string_view name);

// The rule that the "pre_tokenizer" of a tokenizer.json describes. INVALID_ARGUMENT shows what was
// found, in short, if it is none of the known ones.
absl::StatusOr<SplittingRule> RecognizeSplittingRule(const JsonValue& pre_tokenizer);

}  // namespace krait
