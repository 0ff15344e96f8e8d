#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/token.h"
#include "common/vocabulary.h"

namespace krait {

// Text to token ids and back. Immutable: every method may be called from any number of threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids of a part of a text, without a beginning-of-sequence id; `at_start` if nothing comes
  // before it (SentencePiece may put a space there). Control tokens ("<|im_end|>") are
  // recognized only if `allow_special`; otherwise their spelling is ordinary text, so that a user
  // cannot forge the end of a turn. INVALID_ARGUMENT gives the byte offset of invalid UTF-8, or
  // says that the text is too costly to split.
  virtual absl::StatusOr<std::vector<TokenId>> EncodePart(std::string_view text, bool allow_special,
                                                          bool at_start) const = 0;
  // The ids of a whole text.
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, bool allow_special) const {
    return EncodePart(text, allow_special, /*at_start=*/true);
  }

  virtual int vocab_size() const = 0;
  bool IsValid(TokenId id) const { return id >= 0 && id < vocab_size(); }

  // The exact bytes of a valid id (not always UTF-8 by themselves); of a control token its
  // spelling. Lives as long as the tokenizer.
  virtual std::string_view PieceBytes(TokenId id) const = 0;

  // The same where `id` is the first of a text that is shown: SentencePiece's pieces lose the space
  // they may begin with, if encoding puts one there.
  virtual std::string_view PieceBytesAtStart(TokenId id) const { return PieceBytes(id); }

  // How many U+FFFD stand for an ill-formed part of decoded bytes: byte-level references write one
  // (Unicode 3.9), SentencePiece one a byte.
  virtual bool replaces_every_byte() const { return false; }

  // Whether a valid id is a control token, which has no part in displayed text.
  virtual bool IsSpecial(TokenId id) const = 0;

  // The pieces' bytes in a row from the start of a text, control tokens left out if `skip_special`.
  // OUT_OF_RANGE names an invalid id and its index.
  absl::StatusOr<std::string> Decode(absl::Span<const TokenId> ids, bool skip_special) const;
};

// The tokenizer for `vocabulary`: byte-level BPE (or its plain twin if there are no merges) or
// SentencePiece's. INVALID_ARGUMENT names source and field if the vocabulary is not valid, or a
// piece is not spelled as its model's pieces are.
absl::StatusOr<std::unique_ptr<const Tokenizer>> CreateTokenizer(const Vocabulary& vocabulary);

}  // namespace krait
