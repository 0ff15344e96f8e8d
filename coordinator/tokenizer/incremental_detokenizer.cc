#include "coordinator/tokenizer/incremental_detokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace krait {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer, Options options)
    : tokenizer_(&tokenizer),
      skip_special_(options.skip_special),
      include_stop_(options.include_stop),
      min_tokens_(options.min_tokens),
      at_start_(!options.continues_text),
      matcher_(std::move(options.stops)),
      sanitizer_(tokenizer.replaces_every_byte()) {}

absl::StatusOr<IncrementalDetokenizer> IncrementalDetokenizer::Create(const Tokenizer& tokenizer,
                                                                      Options options) {
  for (size_t i = 0; i < options.stops.size(); ++i) {
    if (options.stops[i].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] is empty"));
    }
    if (const std::optional<size_t> offset = FindInvalidUtf8(options.stops[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop[", i, "] is not valid UTF-8 at byte ", *offset));
    }
  }
  return IncrementalDetokenizer(tokenizer, std::move(options));
}

void IncrementalDetokenizer::Release(size_t num_kept, std::string& text) {
  const size_t num_released = held_.size() - num_kept;
  sanitizer_.Push(std::string_view(held_).substr(0, num_released), text);
  held_.erase(0, num_released);
}

absl::StatusOr<std::string> IncrementalDetokenizer::Push(TokenId id) {
  if (!tokenizer_->IsValid(id)) {
    return absl::OutOfRangeError(absl::StrCat("token ", num_tokens_, ": id ", id,
                                              " is outside the vocabulary of ",
                                              tokenizer_->vocab_size()));
  }
  const int64_t index = num_tokens_++;
  std::string text;
  if (stop_ || (skip_special_ && tokenizer_->IsSpecial(id))) return text;
  const std::string_view bytes =
      at_start_ ? tokenizer_->PieceBytesAtStart(id) : tokenizer_->PieceBytes(id);
  at_start_ = false;
  if (index < min_tokens_) {
    sanitizer_.Push(bytes, text);
    return text;
  }
  for (char byte : bytes) {
    held_.push_back(byte);
    const std::optional<StopMatcher::Match> match = matcher_.Push(byte);
    if (!match) continue;
    stop_ = Stop{index, match->stop_index};
    Release(include_stop_ ? 0 : match->length, text);
    held_.clear();
    return text;
  }
  Release(matcher_.num_pending(), text);
  return text;
}

std::string IncrementalDetokenizer::Finish() {
  std::string text;
  Release(0, text);
  sanitizer_.Finish(text);
  return text;
}

}  // namespace krait
