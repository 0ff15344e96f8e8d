#pragma once

#include <optional>
#include <string>

#include "krait/v1/generation.pb.h"

namespace krait {

// The turns of one conversation.
class ChatHistory {
 public:
  // Without `system`, the template's own default stands.
  explicit ChatHistory(std::optional<std::string> system);

  // The conversation with one more message of the user's: what the model is to answer.
  void Ask(const std::string& text);
  // The answer to the last question, complete or cut short.
  void Answer(const std::string& text);
  // The last question was not answered: as if it had not been asked.
  void Withdraw();
  // Forgets all but the system message.
  void Reset();

  const v1::Chat& chat() const { return chat_; }

 private:
  const std::optional<std::string> system_;
  v1::Chat chat_;
};

}  // namespace krait
