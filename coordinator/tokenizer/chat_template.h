#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/vocabulary.h"
#include "coordinator/tokenizer/known_templates.h"
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
// instead of running them, krait knows a few by their whole text (known_templates.h) and refuses
// all others. A prompt begins with a beginning-of-sequence token exactly if the template writes
// one. Turns end with a control token, so message text cannot end its turn. Immutable; any thread.
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

  std::string_view name() const { return known_->name; }

 private:
  explicit ChatTemplate(const KnownTemplate& known) : known_(&known) {}

  // Finds `piece`, which the template writes. INVALID_ARGUMENT if it is no control token.
  absl::Status AddControl(const Vocabulary& vocabulary, std::string_view piece);

  const KnownTemplate* known_;  // static
  std::string bos_, eos_;       // their spellings, where the template writes them
  absl::flat_hash_map<std::string, TokenId> controls_;  // every control token that it writes
};

}  // namespace krait
