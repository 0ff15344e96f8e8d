#include "common/vocabulary.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/byte_alphabet.h"
#include "common/folder_vocabulary.h"
#include "common/gguf_reader.h"
#include "common/gguf_vocabulary.h"
#include "common/json.h"
#include "common/sha256.h"
#include "common/space_prefix.h"
#include "common/splitting_rule.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

constexpr absl::string_view kByteLevel = "gpt2";
constexpr absl::string_view kSentencePiece = "llama";

using Pieces = absl::flat_hash_set<absl::string_view>;

absl::Status SourceError(const Vocabulary& vocabulary, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(vocabulary.source, ": ", what));
}

absl::Status CheckSizes(const Vocabulary& vocabulary) {
  const auto too_many = [](size_t count) {
    return static_cast<int64_t>(count) > kMaxVocabularySize;
  };
  if (vocabulary.pieces.empty()) return SourceError(vocabulary, "tokens: there are none");
  if (too_many(vocabulary.pieces.size()) || too_many(vocabulary.merges.size())) {
    return SourceError(vocabulary,
                       absl::StrCat("tokens or merges: more than ", kMaxVocabularySize));
  }
  if (vocabulary.kinds.size() != vocabulary.pieces.size()) {
    return SourceError(vocabulary, absl::StrCat("token types: ", vocabulary.kinds.size(), " for ",
                                                vocabulary.pieces.size(), " tokens"));
  }
  int64_t bytes = 0;
  for (const std::string& piece : vocabulary.pieces) bytes += static_cast<int64_t>(piece.size());
  for (const std::string& merge : vocabulary.merges) bytes += static_cast<int64_t>(merge.size());
  if (bytes > kMaxVocabularyBytes) {
    return SourceError(vocabulary, absl::StrCat("tokens and merges: ", bytes, " bytes, limit ",
                                                kMaxVocabularyBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckKind(const Vocabulary& vocabulary, size_t id) {
  if (vocabulary.kinds[id] != TokenKind::kByte) return absl::OkStatus();
  if (vocabulary.model != kSentencePiece) {
    return SourceError(
        vocabulary, absl::StrCat("token types: id ", id,
                                 " is a byte-fallback token, which byte-level BPE does not have"));
  }
  if (!ByteOfToken(vocabulary.pieces[id])) {
    return SourceError(vocabulary,
                       absl::StrCat("tokens: byte token ", id, " is spelled ",
                                    QuoteJson(vocabulary.pieces[id]), ", not <0x00> to <0xFF>"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Pieces> CheckPieces(const Vocabulary& vocabulary) {
  Pieces seen;
  seen.reserve(vocabulary.pieces.size());
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const std::string& piece = vocabulary.pieces[i];
    if (piece.empty())
      return SourceError(vocabulary, absl::StrCat("tokens: id ", i, " has no piece"));
    if (!seen.insert(piece).second) {
      return SourceError(vocabulary,
                         absl::StrCat("tokens: id ", i, " repeats the piece ", QuoteJson(piece)));
    }
    RETURN_IF_ERROR(CheckKind(vocabulary, i));
  }
  return seen;
}

// All 256 of them where there are any: no text is then unknown.
absl::Status CheckByteTokens(const Vocabulary& vocabulary) {
  if (vocabulary.model != kSentencePiece) return absl::OkStatus();
  std::array<bool, 256> present{};
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    if (vocabulary.kinds[i] == TokenKind::kByte) present[*ByteOfToken(vocabulary.pieces[i])] = true;
  }
  const auto missing = std::find(present.begin(), present.end(), false);
  if (missing == present.end()) return absl::OkStatus();
  return SourceError(
      vocabulary,
      absl::StrCat("tokens: there is no byte token for byte ", missing - present.begin(),
                   ": only vocabularies with byte fallback are supported"));
}

// Empty if `merge` is fine.
std::string MergeFault(const std::string& merge, const Pieces& pieces) {
  const size_t space = merge.find(' ');
  if (space == std::string::npos || space == 0 || space + 1 == merge.size() ||
      merge.find(' ', space + 1) != std::string::npos) {
    return "is not two pieces with one space between";
  }
  const absl::string_view text = merge;
  const absl::string_view left = text.substr(0, space), right = text.substr(space + 1);
  const std::string merged = absl::StrCat(left, right);
  for (absl::string_view piece : {left, right, absl::string_view(merged)}) {
    if (!pieces.contains(piece)) {
      return absl::StrCat("refers to ", QuoteJson(ToStd(piece)), ", which is no piece");
    }
  }
  return "";
}

absl::Status CheckMerges(const Vocabulary& vocabulary, const Pieces& pieces) {
  const std::vector<uint32_t>& ranks = vocabulary.merge_ranks;
  if (!ranks.empty() &&
      (ranks.size() != vocabulary.merges.size() || !std::is_sorted(ranks.begin(), ranks.end()))) {
    return SourceError(vocabulary, "merge ranks: not one a merge, or not rising");
  }
  absl::flat_hash_set<absl::string_view> seen;
  seen.reserve(vocabulary.merges.size());
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
    const std::string& merge = vocabulary.merges[i];
    std::string fault = MergeFault(merge, pieces);
    if (fault.empty() && !seen.insert(merge).second) fault = "is there twice";
    if (!fault.empty()) {
      return SourceError(vocabulary,
                         absl::StrCat("merges[", i, "]: ", QuoteJson(merge), " ", fault));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSpecialIds(const Vocabulary& vocabulary) {
  const auto check = [&](const char* name, TokenId id) {
    if (id >= 0 && static_cast<size_t>(id) < vocabulary.pieces.size()) return absl::OkStatus();
    return SourceError(vocabulary, absl::StrCat(name, ": id ", id, " is outside 0..",
                                                vocabulary.pieces.size() - 1));
  };
  if (vocabulary.bos_id) RETURN_IF_ERROR(check("bos id", *vocabulary.bos_id));
  if (vocabulary.pad_id) RETURN_IF_ERROR(check("pad id", *vocabulary.pad_id));
  for (TokenId id : vocabulary.eos_ids) RETURN_IF_ERROR(check("eos id", id));
  if (vocabulary.add_bos && !vocabulary.bos_id) {
    return SourceError(vocabulary, "add_bos_token: true, but there is no bos token");
  }
  return absl::OkStatus();
}

bool IsFolderVocabulary(const std::filesystem::path& path) {
  return path.filename() == "tokenizer.json" || path.filename() == "tokenizer.model";
}

// The file to read in `folder`: tokenizer.json or tokenizer.model, of which the first counts, or
// its only .gguf file.
absl::StatusOr<std::string> FindSource(const std::string& folder) {
  std::string in_folder;
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::filesystem::path& path = it->path();
    if (IsFolderVocabulary(path)) {
      in_folder = path.string();
    } else if (path.extension() == ".gguf") {
      found.push_back(path.string());
    }
  }
  if (!in_folder.empty()) found.push_back(in_folder);
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  if (found.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, ": needs exactly one tokenizer.json, tokenizer.model or .gguf file, has ",
        found.size(), found.empty() ? "" : ": name the .gguf file itself"));
  }
  return found.front();
}

absl::StatusOr<Vocabulary> Read(const std::string& path) {
  std::error_code error;
  std::string source = path;
  if (std::filesystem::is_directory(path, error)) {
    ASSIGN_OR_RETURN(source, FindSource(path));
  }
  const std::filesystem::path file(source);
  if (IsFolderVocabulary(file)) {
    const std::string folder = file.parent_path().string();
    return ReadFolderVocabulary(folder.empty() ? "." : folder);
  }
  ASSIGN_OR_RETURN(const GgufHeader header, GgufHeader::Read(source));
  return ReadGgufVocabulary(header);
}

// The name of the rule in pre_tokenizer. Aliases have one, so that they have one digest.
absl::StatusOr<std::string> CanonicalRule(const Vocabulary& vocabulary) {
  absl::Status status;
  if (vocabulary.model == kByteLevel) {
    const absl::StatusOr<SplittingRule> rule = FindSplittingRule(vocabulary.pre_tokenizer);
    if (rule.ok()) return std::string(rule->name);
    status = rule.status();
  } else if (vocabulary.model == kSentencePiece) {
    const absl::StatusOr<SpacePrefix> prefix = FindSpacePrefix(vocabulary.pre_tokenizer);
    if (prefix.ok()) return std::string(SpacePrefixName(*prefix));
    status = prefix.status();
  } else {
    return SourceError(vocabulary, absl::StrCat("model ", QuoteJson(vocabulary.model),
                                                " is not supported, only \"gpt2\" and \"llama\""));
  }
  return SourceError(vocabulary, absl::StrCat("pre-tokenizer: ", status.message()));
}

// Unused ids are never produced and never matched: as good as normal ones, and a folder cannot tell
// them apart.
TokenKind DigestKind(TokenKind kind) {
  return kind == TokenKind::kUnused ? TokenKind::kNormal : kind;
}

}  // namespace

std::optional<uint8_t> ByteOfToken(std::string_view piece) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return std::nullopt;
  const size_t high = kDigits.find(piece[3]), low = kDigits.find(piece[4]);
  if (high == kDigits.npos || low == kDigits.npos) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

absl::Status ValidateVocabulary(const Vocabulary& vocabulary) {
  RETURN_IF_ERROR(CanonicalRule(vocabulary).status());
  RETURN_IF_ERROR(CheckSizes(vocabulary));
  ASSIGN_OR_RETURN(const Pieces pieces, CheckPieces(vocabulary));
  RETURN_IF_ERROR(CheckByteTokens(vocabulary));
  RETURN_IF_ERROR(CheckMerges(vocabulary, pieces));
  return CheckSpecialIds(vocabulary);
}

absl::StatusOr<Vocabulary> Vocabulary::Load(const std::string& path) {
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Read(path));
  RETURN_IF_ERROR(ValidateVocabulary(vocabulary));
  ASSIGN_OR_RETURN(vocabulary.pre_tokenizer, CanonicalRule(vocabulary));
  return vocabulary;
}

Vocabulary Vocabulary::Bytes(const std::vector<std::string>& control_tokens) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre_tokenizer = "gpt-2";
  vocabulary.source = "built-in byte vocabulary";
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.pieces.emplace_back(ByteSymbol(static_cast<uint8_t>(byte)));
    vocabulary.kinds.push_back(TokenKind::kNormal);
  }
  for (const std::string& token : control_tokens) {
    vocabulary.pieces.push_back(token);
    vocabulary.kinds.push_back(TokenKind::kControl);
  }
  return vocabulary;
}

std::string Vocabulary::Digest() const {
  Sha256 sha;
  sha.UpdateField("krait vocabulary 1");
  sha.UpdateField(model);
  sha.UpdateField(pre_tokenizer);
  sha.UpdateInt(static_cast<int64_t>(pieces.size()));
  for (size_t i = 0; i < pieces.size(); ++i) {
    sha.UpdateField(pieces[i]);
    sha.UpdateInt(static_cast<int64_t>(DigestKind(kinds[i])));
  }
  sha.UpdateInt(static_cast<int64_t>(merges.size()));
  for (const std::string& merge : merges) sha.UpdateField(merge);
  for (uint32_t rank : merge_ranks) sha.UpdateInt(int64_t{rank});
  return sha.FinishHex();
}

}  // namespace krait
