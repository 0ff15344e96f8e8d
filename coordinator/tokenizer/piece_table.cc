#include "coordinator/tokenizer/piece_table.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/byte_alphabet.h"
#include "common/json.h"
#include "common/space_prefix.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "coordinator/tokenizer/utf8.h"

namespace krait {
namespace {

// Indices into a text are 32-bit. Requests are bounded long before this.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Added tokens are stored as they are read, all others in the byte alphabet.
bool IsAdded(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUserDefined;
}

absl::Status PieceError(const Vocabulary& vocabulary, size_t id, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(vocabulary.source, ": tokens: id ", id, " ",
                                                 QuoteJson(vocabulary.pieces[id]), " ",
                                                 ToAbsl(what)));
}

absl::StatusOr<std::string> ByteLevelBytes(const Vocabulary& vocabulary, size_t id) {
  const std::string& piece = vocabulary.pieces[id];
  std::optional<std::string> bytes =
      IsAdded(vocabulary.kinds[id]) ? piece : DecodeByteSymbols(piece);
  if (bytes) return *std::move(bytes);
  return PieceError(vocabulary, id, "is not spelled in the byte alphabet of byte-level BPE");
}

absl::StatusOr<std::string> SentencePieceBytes(const Vocabulary& vocabulary, size_t id) {
  const std::string& piece = vocabulary.pieces[id];
  if (FindInvalidUtf8(piece)) return PieceError(vocabulary, id, "is not UTF-8");
  if (IsAdded(vocabulary.kinds[id])) {
    if (piece.find(kSpaceSymbol) == piece.npos) return piece;
    return PieceError(vocabulary, id, "is an added token with U+2581, which is not supported");
  }
  if (const std::optional<uint8_t> byte = ByteOfToken(piece);
      byte && vocabulary.kinds[id] == TokenKind::kByte) {
    return std::string(1, static_cast<char>(*byte));
  }
  return absl::StrReplaceAll(piece, {{ToAbsl(kSpaceSymbol), " "}});
}

}  // namespace

absl::StatusOr<PieceTable> PieceTable::Create(const Vocabulary& vocabulary) {
  PieceTable table;
  table.is_sentencepiece_ = vocabulary.model == "llama";
  table.kinds_ = vocabulary.kinds;
  table.of_byte_.fill(-1);
  table.starts_.push_back(0);
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const TokenId id = static_cast<TokenId>(i);
    const TokenKind kind = vocabulary.kinds[i];
    ASSIGN_OR_RETURN(const std::string bytes, table.is_sentencepiece_
                                                  ? SentencePieceBytes(vocabulary, i)
                                                  : ByteLevelBytes(vocabulary, i));
    if (IsAdded(kind)) {
      RETURN_IF_ERROR(table.user_defined_and_control_.Add(bytes, id));
      if (kind == TokenKind::kUserDefined) RETURN_IF_ERROR(table.user_defined_.Add(bytes, id));
    } else if (table.is_sentencepiece_ ? kind == TokenKind::kByte : bytes.size() == 1) {
      table.of_byte_[static_cast<uint8_t>(bytes.front())] = id;
    }
    table.bytes_ += bytes;
    table.starts_.push_back(static_cast<uint32_t>(table.bytes_.size()));
  }
  return table;
}

std::string_view PieceTable::Bytes(TokenId id) const {
  const uint32_t start = starts_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(start, starts_[static_cast<size_t>(id) + 1] - start);
}

std::string_view PieceTable::BytesAtStart(TokenId id) const {
  std::string_view bytes = Bytes(id);
  if (is_sentencepiece_ && Kind(id) == TokenKind::kNormal && bytes.starts_with(' ')) {
    bytes.remove_prefix(1);
  }
  return bytes;
}

absl::Status PieceTable::EncodeAround(
    std::string_view text, bool allow_special,
    absl::FunctionRef<absl::Status(std::string_view, std::vector<TokenId>&)> encode_ordinary,
    std::vector<TokenId>& ids) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("text has ", text.size(), " bytes, limit ", kMaxTextBytes));
  }
  if (const std::optional<size_t> offset = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("text is not valid UTF-8 at byte ", *offset));
  }
  const AddedTokenMatcher& added = allow_special ? user_defined_and_control_ : user_defined_;
  while (!text.empty()) {
    const AddedTokenMatcher::Match match = added.FindFirst(text);
    if (match.begin > 0) RETURN_IF_ERROR(encode_ordinary(text.substr(0, match.begin), ids));
    if (match.length > 0) ids.push_back(match.id);
    text.remove_prefix(match.begin + match.length);
  }
  return absl::OkStatus();
}

}  // namespace krait
