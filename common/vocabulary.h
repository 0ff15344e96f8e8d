#pragma once

// What a model folder says about its tokenizer, as plain data: both binaries need it (the
// coordinator to tokenize, the worker for end-of-sequence ids and to compare digests with its
// draft).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/token.h"

namespace krait {

enum class TokenKind : uint8_t {
  kNormal,
  kControl,      // special: never produced from user text, skipped when decoding for display
  kUserDefined,  // an added token that is matched as a whole in text
  kByte,         // SentencePiece byte fallback
  kUnused,
};

inline constexpr int64_t kMaxVocabularySize = int64_t{1} << 21;
inline constexpr int64_t kMaxVocabularyBytes = int64_t{64} << 20;  // pieces and merges together

struct Vocabulary {
  // Indexed by id. Byte-level BPE: in the printable alphabet of GPT-2. SentencePiece: as text, a
  // space as U+2581, the 256 byte tokens as <0x00> to <0xFF>. Added tokens: as they are read.
  std::vector<std::string> pieces;
  std::vector<TokenKind> kinds;     // same length
  std::vector<std::string> merges;  // "left right", by rank
  // Rising, same length as merges: those of one rank count as equal (piece_merges.h). Empty: every
  // merge has a rank of its own.
  std::vector<uint32_t> merge_ranks;
  std::string model;  // "gpt2": byte-level BPE; "llama": SentencePiece's BPE with byte fallback
  // What is done to a text before merging: byte-level, the published name of the splitting rule
  // ("smollm", splitting_rule.h); SentencePiece, the rule for the first space (space_prefix.h).
  std::string pre_tokenizer;
  std::string chat_template;  // Jinja source, empty if the folder has none
  std::optional<TokenId> bos_id;
  std::vector<TokenId> eos_ids;  // every id that ends a generation; first is the main one
  std::optional<TokenId> pad_id;
  bool add_bos = false;  // prefix raw prompts with bos_id
  std::string source;    // the file it came from, for messages

  // From a GGUF file's metadata, or from a Hugging Face folder's tokenizer.json,
  // tokenizer_config.json, generation_config.json and config.json; without a tokenizer.json from
  // its tokenizer.model. `path` is a .gguf file or a folder that holds exactly one .gguf file or
  // one of these two. INVALID_ARGUMENT names file and field.
  static absl::StatusOr<Vocabulary> Load(const std::string& path);

  // A vocabulary without merges: ids 0..255 are the bytes, then one id per control token. For tiny
  // models: anything can be spelled and nothing has to be trained.
  static Vocabulary Bytes(const std::vector<std::string>& control_tokens);

  // SHA-256 in hex over ids, pieces, kinds, merges and their rule, in one canonical form: a
  // GGUF file and the folder that `krait convert` makes of it have the same digest.
  std::string Digest() const;
};

// The byte that a SentencePiece byte token stands for ("<0x0A>": 10), nothing for another spelling.
std::optional<uint8_t> ByteOfToken(std::string_view piece);

// What holds for every loaded vocabulary: sizes within the limits, one kind a piece, ids without
// holes, no piece twice, merges of known pieces into a known piece and none twice, a known model
// and rule, all 256 byte tokens or none, special ids inside. INVALID_ARGUMENT names the file, the
// field and the element.
absl::Status ValidateVocabulary(const Vocabulary& vocabulary);

}  // namespace krait
