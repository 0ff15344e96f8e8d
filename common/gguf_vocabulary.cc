#include "common/gguf_vocabulary.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/piece_merges.h"
#include "common/space_prefix.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

absl::Status KeyError(const GgufHeader& header, std::string_view key, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(header.path(), ": ", ToAbsl(key), ": ", what));
}

absl::StatusOr<std::vector<std::string>> ReadStrings(const GgufHeader& header,
                                                     std::string_view key) {
  const std::vector<std::string>* strings = header.FindStrings(key);
  if (strings == nullptr) return KeyError(header, key, "missing, or not an array of strings");
  return *strings;
}

// Numbers of llama_token_type: https://github.com/ggml-org/ggml, docs/gguf.md.
absl::StatusOr<TokenKind> KindFromGguf(int64_t type) {
  switch (type) {
    case 1:
      return TokenKind::kNormal;
    case 2:  // "unknown": stands for what has no piece, never for text
    case 3:
      return TokenKind::kControl;
    case 4:
      return TokenKind::kUserDefined;
    case 5:
      return TokenKind::kUnused;
    case 6:
      return TokenKind::kByte;
    default:
      return absl::InvalidArgumentError(absl::StrCat(type, " is no token type (1 to 6)"));
  }
}

absl::StatusOr<std::vector<TokenKind>> ReadKinds(const GgufHeader& header) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const std::vector<int64_t> types = header.GetInts(kKey);
  if (types.empty()) return KeyError(header, kKey, "missing, or not an array of integers");
  std::vector<TokenKind> kinds;
  kinds.reserve(types.size());
  for (size_t i = 0; i < types.size(); ++i) {
    const absl::StatusOr<TokenKind> kind = KindFromGguf(types[i]);
    if (!kind.ok()) {
      return KeyError(header, kKey,
                      absl::StrCat("element ", i, ": ", std::string(kind.status().message())));
    }
    kinds.push_back(*kind);
  }
  return kinds;
}

// Absent is fine, of another type or outside the vocabulary is not.
absl::StatusOr<std::optional<TokenId>> ReadId(const GgufHeader& header, std::string_view key,
                                              size_t vocab_size) {
  if (!header.Has(key)) return std::optional<TokenId>();
  ASSIGN_OR_RETURN(const int64_t id, header.GetInt(key));
  if (id < 0 || id >= static_cast<int64_t>(vocab_size)) {
    return KeyError(header, key, absl::StrCat("id ", id, " is outside 0..", vocab_size - 1));
  }
  return std::optional<TokenId>(static_cast<TokenId>(id));
}

absl::Status ReadSpecialIds(const GgufHeader& header, Vocabulary& vocabulary) {
  const size_t size = vocabulary.pieces.size();
  ASSIGN_OR_RETURN(vocabulary.bos_id, ReadId(header, "tokenizer.ggml.bos_token_id", size));
  ASSIGN_OR_RETURN(vocabulary.pad_id, ReadId(header, "tokenizer.ggml.padding_token_id", size));
  for (std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                               "tokenizer.ggml.eom_token_id"}) {
    ASSIGN_OR_RETURN(const std::optional<TokenId> id, ReadId(header, key, size));
    std::vector<TokenId>& ids = vocabulary.eos_ids;
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  }
  // The formats' defaults: SentencePiece models begin with bos, byte-level ones do not.
  vocabulary.add_bos = vocabulary.model == "llama" && vocabulary.bos_id.has_value();
  if (header.Has("tokenizer.ggml.add_bos_token")) {
    ASSIGN_OR_RETURN(vocabulary.add_bos, header.GetBool("tokenizer.ggml.add_bos_token"));
  }
  return absl::OkStatus();
}

absl::Status ReadByteLevel(const GgufHeader& header, Vocabulary& vocabulary) {
  ASSIGN_OR_RETURN(vocabulary.pre_tokenizer, header.GetString("tokenizer.ggml.pre"));
  ASSIGN_OR_RETURN(vocabulary.merges, ReadStrings(header, "tokenizer.ggml.merges"));
  return absl::OkStatus();
}

absl::StatusOr<bool> ReadFlag(const GgufHeader& header, std::string_view key, bool fallback) {
  return header.Has(key) ? header.GetBool(key) : fallback;
}

// What SentencePiece can do to a text beyond the space prefix: none of it is supported.
absl::Status CheckPlainNormalizer(const GgufHeader& header) {
  if (header.Has("tokenizer.ggml.pre")) {
    ASSIGN_OR_RETURN(const std::string rule, header.GetString("tokenizer.ggml.pre"));
    if (rule != "default") {
      return KeyError(header, "tokenizer.ggml.pre",
                      absl::StrCat("\"", rule, "\" is not supported for the model \"llama\", only ",
                                   "\"default\""));
    }
  }
  if (header.Has("tokenizer.ggml.precompiled_charsmap")) {
    return KeyError(header, "tokenizer.ggml.precompiled_charsmap", "not supported");
  }
  constexpr std::string_view kRemove = "tokenizer.ggml.remove_extra_whitespaces";
  ASSIGN_OR_RETURN(const bool removes, ReadFlag(header, kRemove, false));
  return removes ? KeyError(header, kRemove, "not supported, must be false") : absl::OkStatus();
}

absl::Status ReadSentencePiece(const GgufHeader& header, Vocabulary& vocabulary) {
  RETURN_IF_ERROR(CheckPlainNormalizer(header));
  ASSIGN_OR_RETURN(const bool prefix, ReadFlag(header, "tokenizer.ggml.add_space_prefix", true));
  vocabulary.pre_tokenizer =
      std::string(SpacePrefixName(prefix ? SpacePrefix::kAlways : SpacePrefix::kNever));
  constexpr std::string_view kScores = "tokenizer.ggml.scores";
  const std::vector<double> scores = header.GetFloats(kScores);
  if (scores.empty()) return KeyError(header, kScores, "missing, or not an array of numbers");
  return SetMergesByScore(scores, vocabulary);
}

}  // namespace

absl::StatusOr<Vocabulary> ReadGgufVocabulary(const GgufHeader& header) {
  Vocabulary vocabulary;
  vocabulary.source = header.path();
  ASSIGN_OR_RETURN(vocabulary.model, header.GetString("tokenizer.ggml.model"));
  if (vocabulary.model != "gpt2" && vocabulary.model != "llama") {
    return KeyError(header, "tokenizer.ggml.model",
                    absl::StrCat("\"", vocabulary.model,
                                 "\" is not supported, only \"gpt2\" (byte-level BPE) and "
                                 "\"llama\" (SentencePiece BPE)"));
  }
  ASSIGN_OR_RETURN(vocabulary.pieces, ReadStrings(header, "tokenizer.ggml.tokens"));
  ASSIGN_OR_RETURN(vocabulary.kinds, ReadKinds(header));
  RETURN_IF_ERROR(vocabulary.model == "gpt2" ? ReadByteLevel(header, vocabulary)
                                             : ReadSentencePiece(header, vocabulary));
  RETURN_IF_ERROR(ReadSpecialIds(header, vocabulary));
  if (header.Has("tokenizer.chat_template")) {
    ASSIGN_OR_RETURN(vocabulary.chat_template, header.GetString("tokenizer.chat_template"));
  }
  return vocabulary;
}

}  // namespace krait
