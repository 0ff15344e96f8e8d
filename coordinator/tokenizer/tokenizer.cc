#include "coordinator/tokenizer/tokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/tokenizer/bpe_tokenizer.h"
#include "coordinator/tokenizer/byte_tokenizer.h"
#include "coordinator/tokenizer/piece_table.h"
#include "coordinator/tokenizer/sentencepiece_tokenizer.h"

namespace krait {

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const TokenId> ids,
                                              bool skip_special) const {
  std::string bytes;
  bool at_start = true;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!IsValid(ids[i])) {
      return absl::OutOfRangeError(absl::StrCat("token_ids[", i, "]: ", ids[i],
                                                " is outside the vocabulary of ", vocab_size()));
    }
    if (skip_special && IsSpecial(ids[i])) continue;
    bytes += at_start ? PieceBytesAtStart(ids[i]) : PieceBytes(ids[i]);
    at_start = false;
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> CreateTokenizer(const Vocabulary& vocabulary) {
  RETURN_IF_ERROR(ValidateVocabulary(vocabulary));
  ASSIGN_OR_RETURN(PieceTable pieces, PieceTable::Create(vocabulary));
  if (vocabulary.model == "llama") {
    return SentencePieceTokenizer::Create(vocabulary, std::move(pieces));
  }
  if (vocabulary.merges.empty()) {
    return std::unique_ptr<const Tokenizer>(new ByteTokenizer(std::move(pieces)));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<const BpeTokenizer> tokenizer,
                   BpeTokenizer::Create(vocabulary, std::move(pieces)));
  return std::unique_ptr<const Tokenizer>(std::move(tokenizer));
}

}  // namespace krait
