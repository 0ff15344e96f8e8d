#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace krait {

// Cuts text into the words inside which BPE merges, by a published rule (common/splitting_rule.h):
// regular expressions on PCRE2 with limits on match steps, depth and heap. Character classes are
// those of the reference implementation, whatever the age of PCRE2's Unicode tables. Immutable; any
// thread.
class WordSplitter {
 public:
  // INVALID_ARGUMENT for an unknown rule.
  static absl::StatusOr<WordSplitter> Create(std::string_view rule);
  WordSplitter(WordSplitter&&) noexcept;
  ~WordSplitter();

  // Calls `on_word` for each word of `text` in order; words cover the text without gap or overlap.
  // `text` must be valid UTF-8. INVALID_ARGUMENT if a limit is hit (then some words may have been
  // seen already).
  absl::Status Split(std::string_view text,
                     absl::FunctionRef<void(std::string_view)> on_word) const;

 private:
  class Stage;
  explicit WordSplitter(std::vector<std::unique_ptr<const Stage>> stages);

  std::vector<std::unique_ptr<const Stage>> stages_;  // each cuts the words of the one before it
};

}  // namespace krait
