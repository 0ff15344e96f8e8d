#include "coordinator/tokenizer/bpe_tokenizer.h"

#include <utility>

#include "common/splitting_rule.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {

BpeTokenizer::BpeTokenizer(const Vocabulary& vocabulary, PieceTable pieces, WordSplitter splitter,
                           bool whole_words_first)
    : pieces_(std::move(pieces)), splitter_(std::move(splitter)), merger_(vocabulary) {
  if (!whole_words_first) return;
  for (TokenId id = 0; id < pieces_.size(); ++id) {
    if (pieces_.Kind(id) == TokenKind::kNormal) whole_words_[ToAbsl(pieces_.Bytes(id))] = id;
  }
}

absl::StatusOr<std::unique_ptr<const BpeTokenizer>> BpeTokenizer::Create(
    const Vocabulary& vocabulary, PieceTable pieces) {
  ASSIGN_OR_RETURN(const SplittingRule rule, FindSplittingRule(vocabulary.pre_tokenizer));
  ASSIGN_OR_RETURN(WordSplitter splitter, WordSplitter::Create(rule.name));
  return std::unique_ptr<const BpeTokenizer>(
      new BpeTokenizer(vocabulary, std::move(pieces), std::move(splitter), rule.whole_words_first));
}

absl::StatusOr<std::vector<TokenId>> BpeTokenizer::EncodePart(std::string_view text,
                                                              bool allow_special,
                                                              bool /*at_start*/) const {
  std::vector<TokenId> ids;
  Scratch scratch;
  const auto encode = [&](std::string_view ordinary, std::vector<TokenId>& out) {
    return splitter_.Split(ordinary,
                           [&](std::string_view word) { EncodeWord(word, scratch, out); });
  };
  RETURN_IF_ERROR(pieces_.EncodeAround(text, allow_special, encode, ids));
  return ids;
}

void BpeTokenizer::EncodeWord(std::string_view word, Scratch& scratch,
                              std::vector<TokenId>& ids) const {
  if (const auto whole = whole_words_.find(ToAbsl(word)); whole != whole_words_.end()) {
    ids.push_back(whole->second);
    return;
  }
  scratch.symbols.clear();
  scratch.symbols.reserve(word.size());
  for (char byte : word) {
    const TokenId id = pieces_.OfByte(static_cast<uint8_t>(byte));
    if (id >= 0) scratch.symbols.push_back(id);
  }
  merger_.Merge(scratch.symbols, scratch.merging, ids);
}

}  // namespace krait
