#include "coordinator/tokenizer/piece_table.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "common/byte_alphabet.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "coordinator/tokenizer/utf8.h"

namespace krait {
namespace {

// Indices into a text are 32-bit. Requests are bounded long before this.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Added tokens are stored as they are read, all others in the byte alphabet.
bool IsAdded(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUserDefined;
}

}  // namespace

absl::StatusOr<PieceTable> PieceTable::Create(const Vocabulary& vocabulary) {
  PieceTable table;
  table.kinds_ = vocabulary.kinds;
  table.of_byte_.fill(-1);
  table.starts_.push_back(0);
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const TokenId id = static_cast<TokenId>(i);
    const std::string& piece = vocabulary.pieces[i];
    const TokenKind kind = vocabulary.kinds[i];
    std::optional<std::string> bytes = IsAdded(kind) ? piece : DecodeByteSymbols(piece);
    if (!bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(vocabulary.source, ": tokens: id ", i, " ", QuoteJson(piece),
                       " is not spelled in the byte alphabet of byte-level BPE"));
    }
    if (IsAdded(kind)) {
      RETURN_IF_ERROR(table.user_defined_and_control_.Add(*bytes, id));
      if (kind == TokenKind::kUserDefined) RETURN_IF_ERROR(table.user_defined_.Add(*bytes, id));
    } else if (bytes->size() == 1) {
      table.of_byte_[static_cast<uint8_t>(bytes->front())] = id;
    }
    table.bytes_ += *bytes;
    table.starts_.push_back(static_cast<uint32_t>(table.bytes_.size()));
  }
  return table;
}

std::string_view PieceTable::Bytes(TokenId id) const {
  const uint32_t start = starts_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(start, starts_[static_cast<size_t>(id) + 1] - start);
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
