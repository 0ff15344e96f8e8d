// A tokenizer.json, tokenizer.model or GGUF file: what loads can encode and decode, whatever its
// pieces and merges.

#include "common/json.h"
#include "common/logging.h"
#include "common/sentencepiece_model.h"
#include "common/tokenizer_json.h"
#include "common/tokenizer_writer.h"
#include "coordinator/tokenizer/chat_template.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "krait/sentencepiece_model.pb.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/memory_file.h"
#include "tests/support/gguf_writer.h"

namespace krait {
namespace {

constexpr char kText[] = "ab  ba\xe2\x96\x81 12<x>\n\xf0\x9f\x98\x80 aaaaaaaaa";

void UseVocabulary(const Vocabulary& vocabulary) {
  if (!ValidateVocabulary(vocabulary).ok()) return;
  (void)vocabulary.Digest();
  (void)ChatTemplate::Create(vocabulary);
  const auto tokenizer = CreateTokenizer(vocabulary);
  if (!tokenizer.ok()) return;
  for (const bool allow_special : {false, true}) {
    const auto ids = (*tokenizer)->Encode(kText, allow_special);
    CHECK_OK(ids.status());
    CHECK_OK((*tokenizer)->Decode(*ids, false).status());
  }
  (void)TokenizerJson(vocabulary);
}

// Byte tokens, "a", "b", U+2581, "ab", "a" after a space, an added token.
Vocabulary SentencePieceVocabulary() {
  Vocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.pre_tokenizer = "prepend";
  vocabulary.source = "fuzz";
  const std::string digits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.pieces.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
    vocabulary.kinds.push_back(TokenKind::kByte);
  }
  for (const char* piece : {"a", "b", "\xe2\x96\x81", "ab",
                            "\xe2\x96\x81"
                            "a",
                            "<x>"}) {
    vocabulary.pieces.push_back(piece);
    vocabulary.kinds.push_back(TokenKind::kNormal);
  }
  vocabulary.kinds.back() = TokenKind::kControl;
  vocabulary.merges = {"a b", "\xe2\x96\x81 a"};
  return vocabulary;
}

std::string GgufOf(const Vocabulary& vocabulary) {
  testing::GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", vocabulary.model);
  writer.AddStrings("tokenizer.ggml.tokens", vocabulary.pieces);
  std::vector<int32_t> types;
  for (TokenKind kind : vocabulary.kinds) {
    types.push_back(kind == TokenKind::kByte ? 6 : kind == TokenKind::kControl ? 3 : 1);
  }
  writer.AddInt32s("tokenizer.ggml.token_type", types);
  writer.AddFloat32s("tokenizer.ggml.scores", std::vector<float>(types.size(), -1.0f));
  writer.AddStrings("tokenizer.ggml.merges", vocabulary.merges);
  writer.AddString("tokenizer.ggml.pre", vocabulary.model == "gpt2" ? "llama-bpe" : "default");
  writer.AddUint32("tokenizer.ggml.bos_token_id", 256);
  return writer.Bytes();
}

std::string ModelOf(const Vocabulary& vocabulary) {
  SentencePieceModel model;
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    SentencePieceModel::Piece& piece = *model.add_pieces();
    piece.set_piece(vocabulary.pieces[i]);
    piece.set_score(-1);
    piece.set_type(vocabulary.kinds[i] == TokenKind::kByte      ? 6
                   : vocabulary.kinds[i] == TokenKind::kControl ? 3
                                                                : 1);
  }
  model.mutable_trainer_spec()->set_model_type(2);
  model.mutable_normalizer_spec()->set_remove_extra_whitespaces(false);
  return model.SerializeAsString();
}

}  // namespace

void FuzzOne(std::string_view input) {
  if (input.starts_with("GGUF")) {
    const MemoryFile memory(input);
    const auto vocabulary = Vocabulary::Load(memory.path());
    if (vocabulary.ok()) UseVocabulary(*vocabulary);
    return;
  }
  if (!input.starts_with("{")) {
    const auto model = ParseSentencePieceModel("fuzz", input);
    if (model.ok()) UseVocabulary(*model);
    return;
  }
  const auto json = ParseJson(input, {.max_bytes = 1 << 20});
  if (!json.ok()) return;
  const auto vocabulary = ReadTokenizerJson("fuzz", *json);
  if (vocabulary.ok()) UseVocabulary(*vocabulary);
}

std::vector<std::string> FuzzSeeds() {
  Vocabulary bytes = Vocabulary::Bytes({"<x>"});
  bytes.pieces.push_back("ab");
  bytes.kinds.push_back(TokenKind::kNormal);
  bytes.merges = {"a b"};
  std::vector<std::string> seeds;
  for (const Vocabulary& vocabulary : {bytes, SentencePieceVocabulary()}) {
    const auto json = TokenizerJson(vocabulary);
    CHECK_OK(json.status());
    seeds.push_back(*json);
    seeds.push_back(GgufOf(vocabulary));
  }
  seeds.push_back(ModelOf(SentencePieceVocabulary()));
  return seeds;
}

}  // namespace krait
