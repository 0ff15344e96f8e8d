#pragma once

#include <string>
#include <vector>

#include "common/vocabulary.h"

namespace krait::testing {

// All bytes, the pieces that `merges` make, then added tokens.
inline Vocabulary SmallVocabulary(const std::vector<std::string>& merges,
                                  const std::vector<std::string>& control = {"<|im_start|>",
                                                                             "<|im_end|>"},
                                  const std::vector<std::string>& user_defined = {}) {
  Vocabulary vocabulary = Vocabulary::Bytes({});
  vocabulary.pre_tokenizer = "smollm";
  vocabulary.merges = merges;
  const auto add = [&](const std::string& piece, TokenKind kind) {
    for (const std::string& known : vocabulary.pieces) {
      if (known == piece) return;
    }
    vocabulary.pieces.push_back(piece);
    vocabulary.kinds.push_back(kind);
  };
  for (std::string piece : merges) {
    piece.erase(piece.find(' '), 1);
    add(piece, TokenKind::kNormal);
  }
  for (const std::string& piece : control) add(piece, TokenKind::kControl);
  for (const std::string& piece : user_defined) add(piece, TokenKind::kUserDefined);
  return vocabulary;
}

}  // namespace krait::testing
