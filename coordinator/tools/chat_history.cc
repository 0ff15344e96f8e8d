#include "coordinator/tools/chat_history.h"

#include <utility>

#include "common/logging.h"
#include "coordinator/tools/generate_request.h"

namespace krait {

ChatHistory::ChatHistory(std::optional<std::string> system) : system_(std::move(system)) {
  Reset();
}

void ChatHistory::Ask(const std::string& text) { AddMessage("user", text, chat_); }

void ChatHistory::Answer(const std::string& text) { AddMessage("assistant", text, chat_); }

void ChatHistory::Withdraw() {
  CHECK_GT(chat_.messages_size(), 0);
  chat_.mutable_messages()->RemoveLast();
}

void ChatHistory::Reset() {
  chat_.Clear();
  if (system_.has_value()) AddMessage("system", *system_, chat_);
}

}  // namespace krait
