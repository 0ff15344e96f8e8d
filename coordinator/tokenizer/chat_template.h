#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/vocabulary.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace krait {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// Part of a rendered conversation.
struct PromptSegment {
  std::string text;
  bool is_control;  // the spelling of one control token that the template itself wrote
};

// Turns messages into a prompt as the model's chat template does. Templates are programs (Jinja);
// instead of running them, krait knows a few by their whole text and refuses all others. Immutable;
// any thread.
class ChatTemplate {
 public:
  // INVALID_ARGUMENT if the vocabulary has no template, one that is not known (the message lists
  // those that are), or lacks a control token that the template writes.
  static absl::StatusOr<ChatTemplate> Create(const Vocabulary& vocabulary);

  // The conversation in order, neighbouring text joined. With `add_generation_prompt` it ends where
  // the assistant is to speak. INVALID_ARGUMENT names the field: messages is empty,
  // messages[2].role is unknown, messages[2].content is not UTF-8.
  absl::StatusOr<std::vector<PromptSegment>> Render(absl::Span<const ChatMessage> messages,
                                                    bool add_generation_prompt) const;

  // Render() as ids. Message text never becomes a control token unless `allow_special`.
  absl::StatusOr<std::vector<TokenId>> Encode(const Tokenizer& tokenizer,
                                              absl::Span<const ChatMessage> messages,
                                              bool add_generation_prompt, bool allow_special) const;

  std::string_view name() const { return name_; }

 private:
  ChatTemplate(std::string_view name, std::string_view default_system, TokenId turn_begin,
               TokenId turn_end)
      : name_(name),
        default_system_(default_system),
        turn_begin_(turn_begin),
        turn_end_(turn_end) {}

  std::string_view name_;            // static
  std::string_view default_system_;  // static; put first if the first message is no system message
  TokenId turn_begin_;
  TokenId turn_end_;
};

}  // namespace krait
