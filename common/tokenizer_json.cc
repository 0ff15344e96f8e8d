#include "common/tokenizer_json.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/byte_alphabet.h"
#include "common/json_field.h"
#include "common/piece_merges.h"
#include "common/space_prefix.h"
#include "common/splitting_rule.h"
#include "common/status_macros.h"

namespace krait {
namespace {

class TokenizerJsonReader {
 public:
  TokenizerJsonReader(const std::string& path, const JsonValue& root) : path_(path), root_(root) {}

  absl::StatusOr<Vocabulary> Read() {
    vocabulary_.source = path_;
    RETURN_IF_ERROR(ReadModel());
    RETURN_IF_ERROR(ReadAddedTokens());
    if (vocabulary_.model == "llama") {
      RETURN_IF_ERROR(ReadSpacePrefix());
      MarkByteTokens();
      GroupMergesByPiece(vocabulary_);
    } else {
      RETURN_IF_ERROR(ReadSplittingRule());
    }
    return std::move(vocabulary_);
  }

 private:
  absl::Status ReadModel() {
    const JsonValue* model = FindPresent(root_, "model");
    if (model == nullptr) return FileFieldError(path_, "model", "missing");
    const JsonValue* type = FindPresent(*model, "type");
    if (type != nullptr && !(type->is_string() && type->as_string() == "BPE")) {
      return FileFieldError(path_, "model.type", "only \"BPE\" is supported");
    }
    ASSIGN_OR_RETURN(const bool byte_fallback, ReadFlag(*model, "byte_fallback"));
    vocabulary_.model = byte_fallback ? "llama" : "gpt2";
    if (!byte_fallback) RETURN_IF_ERROR(CheckByteLevel());
    RETURN_IF_ERROR(CheckModelOptions(*model));
    RETURN_IF_ERROR(ReadPieces(*model));
    RETURN_IF_ERROR(ReadMerges(*model));
    return byte_fallback ? absl::OkStatus() : CheckUnknownToken(*model);
  }

  // An absent or null field is false.
  absl::StatusOr<bool> ReadFlag(const JsonValue& model, std::string_view key) {
    const JsonValue* value = FindPresent(model, key);
    if (value != nullptr && !value->is_bool()) {
      return FileFieldError(path_, absl::StrCat("model.", ToAbsl(key)), "not a boolean");
    }
    return value != nullptr && value->as_bool();
  }

  absl::Status CheckByteLevel() {
    const JsonValue* decoder = FindPresent(root_, "decoder");
    const JsonValue* kind = decoder == nullptr ? nullptr : FindPresent(*decoder, "type");
    if (kind == nullptr || !kind->is_string() || kind->as_string() != "ByteLevel") {
      return FileFieldError(
          path_, "decoder",
          "only a \"ByteLevel\" decoder is supported without model.byte_fallback");
    }
    if (FindPresent(root_, "normalizer") != nullptr) {
      return FileFieldError(path_, "normalizer",
                            "not supported without model.byte_fallback, must be null");
    }
    return absl::OkStatus();
  }

  absl::Status CheckModelOptions(const JsonValue& model) {
    for (std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const JsonValue* value = FindPresent(model, key);
      if (value != nullptr && !(value->is_string() && value->as_string().empty())) {
        return FileFieldError(path_, absl::StrCat("model.", ToAbsl(key)), "not supported");
      }
    }
    const JsonValue* dropout = FindPresent(model, "dropout");
    if (dropout != nullptr && !(dropout->is_number() && dropout->as_double() == 0)) {
      return FileFieldError(path_, "model.dropout", "not supported, must be null or 0");
    }
    return absl::OkStatus();
  }

  absl::Status ReadPieces(const JsonValue& model) {
    const JsonValue* vocab = FindPresent(model, "vocab");
    if (vocab == nullptr || !vocab->is_object()) {
      return FileFieldError(path_, "model.vocab", "missing, or not an object");
    }
    for (const auto& [piece, id] : vocab->as_object()) {
      RETURN_IF_ERROR(AddPiece(absl::StrCat("model.vocab[", QuoteJson(piece), "]"), id, piece));
    }
    return absl::OkStatus();
  }

  // Ids may come in any order; holes are found by ValidateVocabulary, as empty pieces.
  absl::Status AddPiece(const std::string& field, const JsonValue& id, const std::string& piece) {
    if (!id.is_integer()) return FileFieldError(path_, field, "id is not an integer");
    const int64_t value = id.as_int();
    if (value < 0 || value >= kMaxVocabularySize) {
      return FileFieldError(path_, field,
                            absl::StrCat("id ", value, " is outside 0..", kMaxVocabularySize - 1));
    }
    const auto index = static_cast<size_t>(value);
    if (index >= vocabulary_.pieces.size()) {
      vocabulary_.pieces.resize(index + 1);
      vocabulary_.kinds.resize(index + 1, TokenKind::kNormal);
    }
    std::string& slot = vocabulary_.pieces[index];
    if (!slot.empty() && slot != piece) {
      return FileFieldError(path_, field,
                            absl::StrCat("id ", value, " already belongs to ", QuoteJson(slot)));
    }
    slot = piece;
    return absl::OkStatus();
  }

  absl::Status ReadMerges(const JsonValue& model) {
    const JsonValue* merges = FindPresent(model, "merges");
    if (merges == nullptr || !merges->is_array()) {
      return FileFieldError(path_, "model.merges", "missing, or not an array");
    }
    vocabulary_.merges.reserve(merges->as_array().size());
    for (const JsonValue& merge : merges->as_array()) {
      const absl::StatusOr<std::string> text = MergeText(merge);
      if (!text.ok()) {
        return FileFieldError(path_, absl::StrCat("model.merges[", vocabulary_.merges.size(), "]"),
                              ToStd(text.status().message()));
      }
      vocabulary_.merges.push_back(*text);
    }
    return absl::OkStatus();
  }

  // "left right", or since tokenizers 0.20 ["left", "right"].
  static absl::StatusOr<std::string> MergeText(const JsonValue& merge) {
    if (merge.is_string()) return merge.as_string();
    if (!merge.is_array() || merge.as_array().size() != 2 || !merge.as_array()[0].is_string() ||
        !merge.as_array()[1].is_string()) {
      return absl::InvalidArgumentError("neither a string nor a pair of strings");
    }
    return absl::StrCat(merge.as_array()[0].as_string(), " ", merge.as_array()[1].as_string());
  }

  // An unknown token takes the place of bytes that have no piece; without one they vanish, which is
  // what krait does. With all 256 bytes present the field says nothing.
  absl::Status CheckUnknownToken(const JsonValue& model) {
    if (FindPresent(model, "unk_token") == nullptr) return absl::OkStatus();
    const JsonValue& vocab = *model.Find("vocab");
    absl::flat_hash_map<std::string, bool> present;
    for (const auto& [piece, id] : vocab.as_object()) {
      if (piece.size() <= 2) present[piece] = true;
    }
    for (int byte = 0; byte < 256; ++byte) {
      if (!present.contains(std::string(ByteSymbol(static_cast<uint8_t>(byte))))) {
        return FileFieldError(path_, "model.unk_token",
                              absl::StrCat("not supported while byte ", byte, " has no piece"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedTokens() {
    const JsonValue* tokens = FindPresent(root_, "added_tokens");
    if (tokens == nullptr) return absl::OkStatus();
    if (!tokens->is_array()) return FileFieldError(path_, "added_tokens", "not an array");
    for (size_t i = 0; i < tokens->as_array().size(); ++i) {
      RETURN_IF_ERROR(ReadAddedToken(absl::StrCat("added_tokens[", i, "]"), tokens->as_array()[i]));
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedToken(const std::string& field, const JsonValue& token) {
    const JsonValue* id = FindPresent(token, "id");
    const JsonValue* content = FindPresent(token, "content");
    if (id == nullptr || content == nullptr || !content->is_string() ||
        content->as_string().empty()) {
      return FileFieldError(path_, field, "needs an id and a content that is not empty");
    }
    for (std::string_view key : {"single_word", "lstrip", "rstrip"}) {
      const JsonValue* value = FindPresent(token, key);
      if (value != nullptr && !(value->is_bool() && !value->as_bool())) {
        return FileFieldError(path_, absl::StrCat(field, ".", ToAbsl(key)),
                              "not supported, must be false");
      }
    }
    RETURN_IF_ERROR(CheckNormalized(field, token));
    RETURN_IF_ERROR(AddPiece(field, *id, content->as_string()));
    const JsonValue* special = FindPresent(token, "special");
    const bool control = special != nullptr && special->is_bool() && special->as_bool();
    vocabulary_.kinds[static_cast<size_t>(id->as_int())] =
        control ? TokenKind::kControl : TokenKind::kUserDefined;
    return absl::OkStatus();
  }

  // A "normalized" added token is looked for in text that has its spaces and prefix replaced.
  // Control tokens are matched as they are spelled all the same, for which published files mark
  // them too.
  absl::Status CheckNormalized(const std::string& field, const JsonValue& token) {
    const JsonValue* normalized = FindPresent(token, "normalized");
    const JsonValue* special = FindPresent(token, "special");
    const auto is_true = [](const JsonValue* value) {
      return value != nullptr && value->is_bool() && value->as_bool();
    };
    if (vocabulary_.model == "llama" && is_true(normalized) && !is_true(special)) {
      return FileFieldError(path_, absl::StrCat(field, ".normalized"),
                            "not supported with byte fallback, must be false");
    }
    return absl::OkStatus();
  }

  absl::Status ReadSpacePrefix() {
    const absl::StatusOr<SpacePrefix> prefix = RecognizeSpacePrefix(root_);
    if (!prefix.ok()) return FileFieldError(path_, "normalizer", ToStd(prefix.status().message()));
    ASSIGN_OR_RETURN(const bool ignores, ReadFlag(*root_.Find("model"), "ignore_merges"));
    if (ignores) {
      return FileFieldError(path_, "model.ignore_merges",
                            "not supported with byte fallback, must be false");
    }
    vocabulary_.pre_tokenizer = std::string(SpacePrefixName(*prefix));
    return absl::OkStatus();
  }

  // The model knows them by their spelling.
  void MarkByteTokens() {
    for (size_t i = 0; i < vocabulary_.pieces.size(); ++i) {
      if (ByteOfToken(vocabulary_.pieces[i])) vocabulary_.kinds[i] = TokenKind::kByte;
    }
  }

  absl::Status ReadSplittingRule() {
    const JsonValue* pre_tokenizer = FindPresent(root_, "pre_tokenizer");
    if (pre_tokenizer == nullptr) return FileFieldError(path_, "pre_tokenizer", "missing");
    const absl::StatusOr<SplittingRule> rule = RecognizeSplittingRule(*pre_tokenizer);
    if (!rule.ok()) return FileFieldError(path_, "pre_tokenizer", ToStd(rule.status().message()));
    // Absent, the rule's own way counts: GGUF files have no such field either.
    const JsonValue* whole = FindPresent(*root_.Find("model"), "ignore_merges");
    if (whole != nullptr && !(whole->is_bool() && whole->as_bool() == rule->whole_words_first)) {
      return FileFieldError(path_, "model.ignore_merges",
                            absl::StrCat("rule ", ToAbsl(rule->name), " needs ",
                                         rule->whole_words_first ? "true" : "false"));
    }
    vocabulary_.pre_tokenizer = std::string(rule->name);
    return absl::OkStatus();
  }

  const std::string path_;
  const JsonValue& root_;
  Vocabulary vocabulary_;
};

}  // namespace

absl::StatusOr<Vocabulary> ReadTokenizerJson(const std::string& path, const JsonValue& tokenizer) {
  return TokenizerJsonReader(path, tokenizer).Read();
}

}  // namespace krait
