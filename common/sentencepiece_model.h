#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/vocabulary.h"

namespace krait {

inline constexpr uint64_t kMaxSentencePieceModelBytes = uint64_t{64} << 20;

// The vocabulary in a SentencePiece model file (tokenizer.model): BPE whose text is not changed but
// for its spaces. Special ids as the file has them; add_bos if there is a bos token; no chat
// template. Not yet validated as a whole: see ValidateVocabulary. `path` is for messages.
// INVALID_ARGUMENT names it and what is damaged or not supported: another model than BPE,
// normalization, spaces behind words, user-defined pieces.
absl::StatusOr<Vocabulary> ParseSentencePieceModel(const std::string& path, std::string_view bytes);

}  // namespace krait
