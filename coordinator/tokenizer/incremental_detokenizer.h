#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/tokenizer/stop_matcher.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "coordinator/tokenizer/utf8.h"

namespace krait {

// The tokens of one generation, one at a time, to pieces of text that are valid UTF-8 each. The
// pieces in a row depend on the tokens alone. Invalid bytes become U+FFFD. Text that may
// still turn out to be the start of a stop string, or of a character, is held back.
// One owner, not thread-safe.
class IncrementalDetokenizer {
 public:
  struct Options {
    std::vector<std::string> stops;
    bool skip_special = true;   // leave control tokens out of the text
    bool include_stop = false;  // text ends behind the stop string, not before it
    // Stop strings are looked for in the text after so many tokens.
    int64_t min_tokens = 0;
    // The text goes on where other text ended: the space that SentencePiece's first piece may begin
    // with belongs to it. Otherwise the pieces in a row are what Tokenizer::Decode gives.
    bool continues_text = false;
  };
  // `tokenizer` must outlive the result. INVALID_ARGUMENT names the stop string (stop[2]) that is
  // empty or not UTF-8.
  static absl::StatusOr<IncrementalDetokenizer> Create(const Tokenizer& tokenizer, Options options);

  // The text that `id` makes certain, often empty. Once a stop string is complete, all further
  // tokens give empty text. OUT_OF_RANGE for an id outside the vocabulary, which is not counted.
  absl::StatusOr<std::string> Push(TokenId id);

  // The stream has ended, at a stop or not: the text that was held back. Call once.
  std::string Finish();

  struct Stop {
    int64_t token_index;  // of the token that completed the stop string, counted from 0
    size_t stop_index;    // which stop string
  };
  // The stop string that is complete first; of those that end at the same byte, the longest. A
  // stream is cut after tokens 0..token_index, however its tokens came in.
  const std::optional<Stop>& stop() const { return stop_; }

  int64_t num_tokens() const { return num_tokens_; }

 private:
  IncrementalDetokenizer(const Tokenizer& tokenizer, Options options);

  // Moves all but the last `num_kept` bytes of held_ to `text`.
  void Release(size_t num_kept, std::string& text);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool include_stop_;
  int64_t min_tokens_;
  bool at_start_;  // no token has been shown
  StopMatcher matcher_;
  Utf8Sanitizer sanitizer_;
  std::string held_;  // bytes that may begin a stop string
  int64_t num_tokens_ = 0;
  std::optional<Stop> stop_;
};

}  // namespace krait
