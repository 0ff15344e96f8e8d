#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/vocabulary.h"
#include "coordinator/tokenizer/chat_template.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// The text side of the served model: its tokenizer and chat template, read from the coordinator's
// own copy of the model's folder. Immutable; any thread.
class TextModel {
 public:
  // INVALID_ARGUMENT or NOT_FOUND names file and field. A chat template that krait does not know is
  // no error here: chat requests then are.
  static absl::StatusOr<std::unique_ptr<const TextModel>> Load(const std::string& path);
  static absl::StatusOr<std::unique_ptr<const TextModel>> Create(Vocabulary vocabulary);

  // With the beginning-of-sequence id in front if the model wants one. FieldError "prompt" for
  // bytes that are not UTF-8.
  absl::StatusOr<std::vector<TokenId>> EncodePrompt(std::string_view prompt,
                                                    bool allow_special) const;
  // FieldError "chat" without a known template, or for a bad message.
  absl::StatusOr<std::vector<TokenId>> EncodeChat(const v1::Chat& chat, bool allow_special) const;

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  const std::string& digest() const { return digest_; }
  std::string chat_template_name() const;  // empty: chat is not possible
  bool IsEos(TokenId id) const;

 private:
  TextModel(Vocabulary vocabulary, std::unique_ptr<const Tokenizer> tokenizer);

  const Vocabulary vocabulary_;
  const std::string digest_;
  const std::unique_ptr<const Tokenizer> tokenizer_;
  const absl::StatusOr<ChatTemplate> chat_template_;
};

}  // namespace krait
