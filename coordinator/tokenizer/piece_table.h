#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/token.h"
#include "common/vocabulary.h"
#include "coordinator/tokenizer/added_token_matcher.h"

namespace krait {

// What every tokenizer over bytes needs of a vocabulary: the bytes of each piece, the piece of each
// byte, and the added tokens that are cut out of a text before anything else. Immutable.
class PieceTable {
 public:
  // INVALID_ARGUMENT names a normal piece that is not spelled in the byte alphabet, or for
  // SentencePiece one that is not UTF-8, and an added token that holds U+2581.
  static absl::StatusOr<PieceTable> Create(const Vocabulary& vocabulary);

  int size() const { return static_cast<int>(kinds_.size()); }
  std::string_view Bytes(TokenId id) const;
  // The bytes at the start of a text: SentencePiece's normal pieces without the space they may
  // begin with, all others as above.
  std::string_view BytesAtStart(TokenId id) const;
  TokenKind Kind(TokenId id) const { return kinds_[static_cast<size_t>(id)]; }
  // Of SentencePiece, the byte token. -1 if no piece is this byte alone. Such bytes vanish from a
  // text, as they do in the reference (SmolLM2 lacks 21 bytes, 7 of which can occur in UTF-8:
  // control characters like U+0004).
  TokenId OfByte(uint8_t byte) const { return of_byte_[byte]; }

  // Appends the ids of `text` to `ids`: those of added tokens here, the text between them, never
  // empty, through `encode_ordinary` as parts of `text`. Control tokens are cut out only if
  // `allow_special`. INVALID_ARGUMENT gives the offset of invalid UTF-8; else the first error of
  // `encode_ordinary`.
  absl::Status EncodeAround(
      std::string_view text, bool allow_special,
      absl::FunctionRef<absl::Status(std::string_view, std::vector<TokenId>&)> encode_ordinary,
      std::vector<TokenId>& ids) const;

 private:
  bool is_sentencepiece_ = false;
  std::string bytes_;             // of all pieces in a row
  std::vector<uint32_t> starts_;  // size() + 1 offsets into bytes_
  std::vector<TokenKind> kinds_;
  std::array<TokenId, 256> of_byte_;
  AddedTokenMatcher user_defined_;              // always cut out
  AddedTokenMatcher user_defined_and_control_;  // cut out where special tokens are allowed
};

}  // namespace krait
