#include "coordinator/tokenizer/tokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/tokenizer/bpe_tokenizer.h"
#include "coordinator/tokenizer/byte_tokenizer.h"
#include "coordinator/tokenizer/piece_table.h"

namespace krait {

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const TokenId> ids,
                                              bool skip_special) const {
  std::string bytes;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!IsValid(ids[i])) {
      return absl::OutOfRangeError(absl::StrCat("token_ids[", i, "]: ", ids[i],
                                                " is outside the vocabulary of ", vocab_size()));
    }
    if (!(skip_special && IsSpecial(ids[i]))) bytes += PieceBytes(ids[i]);
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> CreateTokenizer(const Vocabulary& vocabulary) {
  RETURN_IF_ERROR(ValidateVocabulary(vocabulary));
  ASSIGN_OR_RETURN(PieceTable pieces, PieceTable::Create(vocabulary));
  if (vocabulary.merges.empty()) {
    return std::unique_ptr<const Tokenizer>(new ByteTokenizer(std::move(pieces)));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<const BpeTokenizer> tokenizer,
                   BpeTokenizer::Create(vocabulary, std::move(pieces)));
  return std::unique_ptr<const Tokenizer>(std::move(tokenizer));
}

}  // namespace krait
