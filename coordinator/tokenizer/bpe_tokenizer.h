#pragma once

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "coordinator/tokenizer/piece_table.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "coordinator/tokenizer/word_merger.h"
#include "coordinator/tokenizer/word_splitter.h"

namespace krait {

// Byte-level BPE: added tokens are cut out, the rest is split into words, words into bytes, and
// bytes merged. Time is O(n log n) for any text.
class BpeTokenizer : public Tokenizer {
 public:
  // `vocabulary` must be valid (ValidateVocabulary), `pieces` made of it. INVALID_ARGUMENT for an
  // unknown splitting rule.
  static absl::StatusOr<std::unique_ptr<const BpeTokenizer>> Create(const Vocabulary& vocabulary,
                                                                    PieceTable pieces);

  absl::StatusOr<std::vector<TokenId>> EncodePart(std::string_view text, bool allow_special,
                                                  bool at_start) const override;
  int vocab_size() const override { return pieces_.size(); }
  std::string_view PieceBytes(TokenId id) const override { return pieces_.Bytes(id); }
  bool IsSpecial(TokenId id) const override { return pieces_.Kind(id) == TokenKind::kControl; }

 private:
  BpeTokenizer(const Vocabulary& vocabulary, PieceTable pieces, WordSplitter splitter,
               bool whole_words_first);

  struct Scratch {
    std::vector<TokenId> symbols;  // of one word
    WordMerger::Scratch merging;
  };
  void EncodeWord(std::string_view word, Scratch& scratch, std::vector<TokenId>& ids) const;

  const PieceTable pieces_;
  const WordSplitter splitter_;
  const WordMerger merger_;
  // Normal pieces by their bytes, which pieces_ owns. Empty unless whole words go first.
  absl::flat_hash_map<absl::string_view, TokenId> whole_words_;
};

}  // namespace krait
