#include "coordinator/server/text_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/request_limits.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// Puts `field` in front of an error that does not name one.
absl::Status InField(const char* field, const absl::Status& status) {
  if (!ErrorField(status).empty()) return status;
  absl::Status named(status.code(), absl::StrCat(field, ": ", status.message()));
  SetErrorField(field, named);
  return named;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TextModel>> TextModel::Load(const std::string& path) {
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Load(path));
  return Create(std::move(vocabulary));
}

absl::StatusOr<std::unique_ptr<const TextModel>> TextModel::Create(Vocabulary vocabulary) {
  ASSIGN_OR_RETURN(auto tokenizer, CreateTokenizer(vocabulary));
  return std::unique_ptr<const TextModel>(
      new TextModel(std::move(vocabulary), std::move(tokenizer)));
}

TextModel::TextModel(Vocabulary vocabulary, std::unique_ptr<const Tokenizer> tokenizer)
    : vocabulary_(std::move(vocabulary)),
      digest_(vocabulary_.Digest()),
      tokenizer_(std::move(tokenizer)),
      chat_template_(ChatTemplate::Create(vocabulary_)) {}

absl::StatusOr<std::vector<TokenId>> TextModel::EncodePrompt(std::string_view prompt,
                                                             bool allow_special) const {
  RETURN_IF_ERROR(CheckUtf8("prompt", prompt));
  auto ids = tokenizer_->Encode(prompt, allow_special);
  if (!ids.ok()) return InField("prompt", ids.status());
  if (vocabulary_.add_bos && vocabulary_.bos_id.has_value()) {
    ids->insert(ids->begin(), *vocabulary_.bos_id);
  }
  return ids;
}

absl::StatusOr<std::vector<TokenId>> TextModel::EncodeChat(const v1::Chat& chat,
                                                           bool allow_special) const {
  if (!chat_template_.ok()) return InField("chat", chat_template_.status());
  if (chat.messages_size() > kMaxChatMessages) {
    return FieldError("chat.messages", absl::StrCat("at most ", kMaxChatMessages, " entries, got ",
                                                    chat.messages_size()));
  }
  std::vector<ChatMessage> messages;
  for (const v1::Message& message : chat.messages()) {
    messages.push_back({message.role(), message.content()});
  }
  auto ids =
      chat_template_->Encode(*tokenizer_, messages, /*add_generation_prompt=*/true, allow_special);
  if (!ids.ok()) return InField("chat", ids.status());
  return ids;
}

std::string TextModel::chat_template_name() const {
  return chat_template_.ok() ? std::string(chat_template_->name()) : "";
}

bool TextModel::IsEos(TokenId id) const {
  const auto& eos = vocabulary_.eos_ids;
  return std::find(eos.begin(), eos.end(), id) != eos.end();
}

}  // namespace krait
