#pragma once

#include <utility>

#include "coordinator/tokenizer/piece_table.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace krait {

// One id a byte: byte-level BPE without merges, the plain twin of BpeTokenizer and the tokenizer of
// tiny models.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(PieceTable pieces) : pieces_(std::move(pieces)) {}

  absl::StatusOr<std::vector<TokenId>> EncodePart(std::string_view text, bool allow_special,
                                                  bool at_start) const override;
  int vocab_size() const override { return pieces_.size(); }
  std::string_view PieceBytes(TokenId id) const override { return pieces_.Bytes(id); }
  bool IsSpecial(TokenId id) const override { return pieces_.Kind(id) == TokenKind::kControl; }

 private:
  const PieceTable pieces_;
};

}  // namespace krait
