#include "common/added_tokens.h"

#include <filesystem>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/json_field.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// One entry of added_tokens_decoder: a piece of the model's, or the next one after them.
absl::Status AddToken(const std::string& file, const std::string& field, size_t id,
                      const JsonValue& token, Vocabulary& vocabulary) {
  const JsonValue* content = FindPresent(token, "content");
  if (content == nullptr || !content->is_string() || content->as_string().empty()) {
    return FileFieldError(file, field, "needs a content that is not empty");
  }
  const bool special = IsTrue(token, "special");
  for (std::string_view key : {"single_word", "lstrip", "rstrip"}) {
    if (IsTrue(token, key)) {
      return FileFieldError(file, absl::StrCat(field, ".", ToAbsl(key)),
                            "not supported, must be false");
    }
  }
  if (id < vocabulary.pieces.size()) {
    const bool same = vocabulary.pieces[id] == content->as_string() &&
                      (vocabulary.kinds[id] == TokenKind::kControl) == special;
    return same
               ? absl::OkStatus()
               : FileFieldError(file, field, "contradicts the piece of that id in tokenizer.model");
  }
  if (id > vocabulary.pieces.size()) {
    return FileFieldError(file, field,
                          absl::StrCat("id ", vocabulary.pieces.size(), " is missing"));
  }
  if (IsTrue(token, "normalized") && !special) {
    return FileFieldError(file, absl::StrCat(field, ".normalized"), "not supported, must be false");
  }
  vocabulary.pieces.push_back(content->as_string());
  vocabulary.kinds.push_back(special ? TokenKind::kControl : TokenKind::kUserDefined);
  return absl::OkStatus();
}

absl::Status AddTokensOfConfig(const std::string& folder, const JsonValue& tokenizer_config,
                               Vocabulary& vocabulary) {
  const JsonValue* tokens = FindPresent(tokenizer_config, "added_tokens_decoder");
  if (tokens == nullptr) return absl::OkStatus();
  const std::string file = folder + "/tokenizer_config.json";
  if (!tokens->is_object()) return FileFieldError(file, "added_tokens_decoder", "not an object");
  std::map<size_t, const JsonValue*> by_id;
  for (const auto& [key, token] : tokens->as_object()) {
    size_t id = 0;
    if (!absl::SimpleAtoi(key, &id) || id >= static_cast<size_t>(kMaxVocabularySize)) {
      return FileFieldError(file, absl::StrCat("added_tokens_decoder[", QuoteJson(key), "]"),
                            absl::StrCat("not an id in 0..", kMaxVocabularySize - 1));
    }
    by_id[id] = &token;
  }
  for (const auto& [id, token] : by_id) {
    RETURN_IF_ERROR(
        AddToken(file, absl::StrCat("added_tokens_decoder[", id, "]"), id, *token, vocabulary));
  }
  return absl::OkStatus();
}

// Older folders list them here only.
absl::Status CheckAddedTokensFile(const std::string& folder, const Vocabulary& vocabulary) {
  const std::string file = folder + "/added_tokens.json";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonValue tokens, ReadJsonFile(file));
  if (!tokens.is_object()) return FileFieldError(file, "the document", "not an object");
  for (const auto& [content, id] : tokens.as_object()) {
    const std::vector<std::string>& pieces = vocabulary.pieces;
    if (!id.is_integer() || id.as_int() < 0 || id.as_int() >= static_cast<int64_t>(pieces.size()) ||
        pieces[static_cast<size_t>(id.as_int())] != content) {
      return FileFieldError(file, QuoteJson(content),
                            "neither in tokenizer.model nor in added_tokens_decoder of "
                            "tokenizer_config.json: not supported");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadAddedTokens(const std::string& folder, const JsonValue& tokenizer_config,
                             Vocabulary& vocabulary) {
  RETURN_IF_ERROR(AddTokensOfConfig(folder, tokenizer_config, vocabulary));
  return CheckAddedTokensFile(folder, vocabulary);
}

}  // namespace krait
