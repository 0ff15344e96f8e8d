#pragma once

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "common/space_prefix.h"
#include "coordinator/tokenizer/piece_table.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "coordinator/tokenizer/word_merger.h"

namespace krait {

// SentencePiece's BPE with byte fallback (Llama 2, Mistral, Zephyr): added tokens are cut out, a
// space may be put before what is left, spaces become U+2581, and characters merge across the whole
// section. A character that is no piece becomes the byte tokens of its UTF-8.
class SentencePieceTokenizer : public Tokenizer {
 public:
  // `vocabulary` must be valid (ValidateVocabulary), `pieces` made of it. INVALID_ARGUMENT names a
  // normal piece with a character that is no piece itself: SentencePiece could still make it.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Create(const Vocabulary& vocabulary,
                                                                 PieceTable pieces);

  absl::StatusOr<std::vector<TokenId>> EncodePart(std::string_view text, bool allow_special,
                                                  bool at_start) const override;
  int vocab_size() const override { return pieces_.size(); }
  std::string_view PieceBytes(TokenId id) const override { return pieces_.Bytes(id); }
  std::string_view PieceBytesAtStart(TokenId id) const override {
    return prefix_ == SpacePrefix::kNever ? pieces_.Bytes(id) : pieces_.BytesAtStart(id);
  }
  bool replaces_every_byte() const override { return true; }
  bool IsSpecial(TokenId id) const override { return pieces_.Kind(id) == TokenKind::kControl; }

 private:
  using Characters = absl::flat_hash_map<uint32_t, TokenId>;  // by the character's UTF-8 bytes
  SentencePieceTokenizer(const Vocabulary& vocabulary, PieceTable pieces, SpacePrefix prefix,
                         Characters characters);

  // Whether a space goes before `section`.
  bool NeedsPrefix(std::string_view section, bool at_start) const;
  void AppendCharacter(std::string_view character, std::vector<TokenId>& symbols) const;

  const PieceTable pieces_;
  const SpacePrefix prefix_;
  const Characters characters_;
  const WordMerger merger_;
};

}  // namespace krait
