// Every kind of vocabulary against the library that defines it, on the lines and small trained
// vocabularies of make_kinds_reference.py.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "common/json.h"
#include "common/tokenizer_writer.h"
#include "coordinator/tokenizer/incremental_detokenizer.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "tests/coordinator/tokenizer/reference_file.h"
#include "tests/support/gguf_writer.h"

namespace krait {
namespace {

const std::string kData = "tests/coordinator/tokenizer/testdata/";

using testing::ReferenceLine;

std::unique_ptr<const Tokenizer> TokenizerOf(const Vocabulary& vocabulary) {
  auto tokenizer = CreateTokenizer(vocabulary);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

Vocabulary LoadFolder(const std::string& name) {
  const auto vocabulary = Vocabulary::Load(kData + name + "/tokenizer.json");
  EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
  return *vocabulary;
}

// The same vocabulary as llama/tokenizer.json, from scores.
Vocabulary LoadScores() {
  const auto file = ReadJsonFile(kData + "llama/scores.json");
  EXPECT_TRUE(file.ok()) << file.status();
  std::vector<std::string> pieces;
  std::vector<int32_t> types;
  std::vector<float> scores;
  for (const JsonValue& piece : file->Find("pieces")->as_array()) {
    pieces.push_back(piece.as_string());
  }
  for (const JsonValue& type : file->Find("types")->as_array()) {
    types.push_back(static_cast<int32_t>(type.as_int()));
  }
  for (const JsonValue& score : file->Find("scores")->as_array()) {
    scores.push_back(static_cast<float>(score.as_double()));
  }
  testing::GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", "llama");
  writer.AddStrings("tokenizer.ggml.tokens", pieces);
  writer.AddInt32s("tokenizer.ggml.token_type", types);
  writer.AddFloat32s("tokenizer.ggml.scores", scores);
  writer.AddUint32("tokenizer.ggml.bos_token_id", 1);
  writer.AddUint32("tokenizer.ggml.eos_token_id", 2);
  const std::string path = ::testing::TempDir() + "/kinds_scores.gguf";
  writer.Write(path);
  const auto vocabulary = Vocabulary::Load(path);
  EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
  return *vocabulary;
}

void ExpectIdsEqual(const Tokenizer& tokenizer, const std::string& path, bool allow_special,
                    size_t min_lines) {
  const std::vector<ReferenceLine> lines = testing::ReadReference(path);
  ASSERT_GE(lines.size(), min_lines);
  size_t num_different = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto ids = tokenizer.Encode(lines[i].text, allow_special);
    ASSERT_TRUE(ids.ok()) << ids.status();
    if (*ids == lines[i].ids) continue;
    if (++num_different <= 5) {
      EXPECT_EQ(*ids, lines[i].ids) << "line " << i + 1 << " " << QuoteJson(lines[i].text);
    }
  }
  EXPECT_EQ(num_different, 0u);
}

// In SentencePiece U+2581 is a space.
void ExpectDecodingsEqual(const Tokenizer& tokenizer, const std::string& path) {
  for (const ReferenceLine& line : testing::ReadReference(path)) {
    const auto text = tokenizer.Decode(line.ids, true);
    ASSERT_TRUE(text.ok()) << text.status();
    ASSERT_EQ(*text, tokenizer.replaces_every_byte()
                         ? absl::StrReplaceAll(line.text, {{"\u2581", " "}})
                         : line.text);
  }
}

TEST(KindsReferenceTest, Gpt2EqualsTokenizers) {
  const auto tokenizer = TokenizerOf(LoadFolder("gpt2"));
  ExpectIdsEqual(*tokenizer, kData + "gpt2/reference.txt", false, 1000);
  ExpectDecodingsEqual(*tokenizer, kData + "gpt2/reference.txt");
}

TEST(KindsReferenceTest, Llama3EqualsTokenizers) {
  const auto tokenizer = TokenizerOf(LoadFolder("llama3"));
  ExpectIdsEqual(*tokenizer, kData + "llama3/reference.txt", false, 1000);
  ExpectDecodingsEqual(*tokenizer, kData + "llama3/reference.txt");
}

TEST(KindsReferenceTest, SentencePieceFromScoresEqualsSentencePiece) {
  const auto tokenizer = TokenizerOf(LoadScores());
  ExpectIdsEqual(*tokenizer, kData + "llama/reference.txt", false, 1000);
  ExpectDecodingsEqual(*tokenizer, kData + "llama/reference.txt");
}

TEST(KindsReferenceTest, SentencePieceFromTokenizerJsonEqualsTokenizers) {
  for (const std::string name : {"llama", "metaspace"}) {
    const auto tokenizer = TokenizerOf(LoadFolder(name));
    ExpectIdsEqual(*tokenizer, kData + name + "/reference.txt", false, 1000);
  }
}

TEST(KindsReferenceTest, SectionsBetweenControlTokensGetTheSpacesOfTheReference) {
  for (const std::string name : {"llama", "metaspace"}) {
    const auto tokenizer = TokenizerOf(LoadFolder(name));
    ExpectIdsEqual(*tokenizer, kData + name + "/special.txt", true, 100);
  }
}

TEST(KindsReferenceTest, OneVocabularyHasOneDigestWhateverItWasReadFrom) {
  const Vocabulary scores = LoadScores();
  EXPECT_EQ(scores.Digest(), LoadFolder("llama").Digest());
  EXPECT_NE(scores.Digest(), LoadFolder("metaspace").Digest());
  const auto json = TokenizerJson(scores);
  ASSERT_TRUE(json.ok()) << json.status();
  const std::string folder = ::testing::TempDir() + "/kinds_reference";
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/tokenizer.json";
  std::ofstream(path, std::ios::binary) << *json;
  const auto written = Vocabulary::Load(path);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->Digest(), scores.Digest());
}

TEST(KindsReferenceTest, AModelFileIsTheSameVocabulary) {
  const Vocabulary scores = LoadScores();
  const auto model = Vocabulary::Load(kData + "sentencepiece");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->Digest(), scores.Digest());
  EXPECT_EQ(model->bos_id, scores.bos_id);
  EXPECT_EQ(model->eos_ids, scores.eos_ids);
  EXPECT_TRUE(model->add_bos);
  const auto tokenizer = TokenizerOf(*model);
  ExpectIdsEqual(*tokenizer, kData + "llama/reference.txt", false, 1000);
  ExpectIdsEqual(*tokenizer, kData + "llama/special.txt", true, 100);
}

// Ids in any order: byte tokens that make no character, spaces at the start, control tokens.
TEST(KindsReferenceTest, StreamedTextEqualsWhatSentencePieceDecodes) {
  const auto tokenizer = TokenizerOf(LoadScores());
  const auto rows = ReadJsonFile(kData + "llama/decodings.json");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_GE(rows->as_array().size(), 1000u);
  for (const JsonValue& row : rows->as_array()) {
    auto detokenizer = IncrementalDetokenizer::Create(*tokenizer, {});
    ASSERT_TRUE(detokenizer.ok()) << detokenizer.status();
    std::string text;
    for (const JsonValue& id : row.as_array()[0].as_array()) {
      const std::string delta = *detokenizer->Push(static_cast<TokenId>(id.as_int()));
      ASSERT_FALSE(FindInvalidUtf8(delta).has_value());
      text += delta;
    }
    text += detokenizer->Finish();
    ASSERT_EQ(text, row.as_array()[1].as_string());
  }
}

TEST(KindsReferenceTest, TextThatGoesOnKeepsItsFirstSpace) {
  const auto tokenizer = TokenizerOf(LoadScores());
  const std::vector<TokenId> ids = *tokenizer->Encode("the", false);
  for (const bool continues : {false, true}) {
    auto detokenizer =
        IncrementalDetokenizer::Create(*tokenizer, {.stops = {}, .continues_text = continues});
    std::string text;
    for (TokenId id : ids) text += *detokenizer->Push(id);
    EXPECT_EQ(text, continues ? " the" : "the");
  }
}

}  // namespace
}  // namespace krait
