#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "common/json.h"
#include "common/piece_merges.h"
#include "common/tokenizer_json.h"
#include "common/tokenizer_writer.h"
#include "common/vocabulary.h"
#include "tests/support/gguf_writer.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Piece {
  std::string text;
  float score;
  int32_t type = 1;
};

// <unk>, <s>, the byte tokens, then these.
std::vector<Piece> Pieces(const std::vector<Piece>& more) {
  std::vector<Piece> pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}};
  for (int byte = 0; byte < 256; ++byte)
    pieces.push_back({absl::StrFormat("<0x%02X>", byte), 0, 6});
  pieces.insert(pieces.end(), more.begin(), more.end());
  return pieces;
}

const std::vector<Piece> kSmall = {{"ab", -1}, {"abc", -2}, {"bc", -3},
                                   {"a", -4},  {"b", -5},   {"c", -6}};

testing::GgufWriter WriterOf(const std::vector<Piece>& pieces) {
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const Piece& piece : pieces) {
    texts.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(piece.type);
  }
  testing::GgufWriter writer;
  writer.AddString("tokenizer.ggml.model", "llama");
  writer.AddStrings("tokenizer.ggml.tokens", texts);
  writer.AddFloat32s("tokenizer.ggml.scores", scores);
  writer.AddInt32s("tokenizer.ggml.token_type", types);
  writer.AddUint32("tokenizer.ggml.bos_token_id", 1);
  return writer;
}

absl::StatusOr<Vocabulary> Load(const testing::GgufWriter& writer) {
  const std::string path = ::testing::TempDir() + "/sentencepiece_vocabulary.gguf";
  writer.Write(path);
  return Vocabulary::Load(path);
}

std::string ErrorOf(const testing::GgufWriter& writer) {
  const auto loaded = Load(writer);
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(loaded.status().message());
}

TEST(SentencePieceVocabularyTest, ScoresBecomeMergesAndAllThatMakeOnePieceHaveOneRank) {
  const auto vocabulary = Load(WriterOf(Pieces(kSmall)));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_THAT(vocabulary->merges, ElementsAre("a b", "ab c", "a bc", "b c"));
  EXPECT_THAT(vocabulary->merge_ranks, ElementsAre(0, 1, 1, 2));
  EXPECT_EQ(vocabulary->pre_tokenizer, "prepend");
  EXPECT_TRUE(vocabulary->add_bos);
}

TEST(SentencePieceVocabularyTest, TheFileSaysWhetherSpaceAndBosComeFirst) {
  testing::GgufWriter writer = WriterOf(Pieces(kSmall));
  writer.AddBool("tokenizer.ggml.add_space_prefix", false);
  writer.AddBool("tokenizer.ggml.add_bos_token", false);
  const auto vocabulary = Load(writer);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->pre_tokenizer, "none");
  EXPECT_FALSE(vocabulary->add_bos);
}

TEST(SentencePieceVocabularyTest, WhatIsNotSupportedIsRefusedByName) {
  testing::GgufWriter rule = WriterOf(Pieces(kSmall));
  rule.AddString("tokenizer.ggml.pre", "qwen99");
  EXPECT_THAT(ErrorOf(rule), HasSubstr("qwen99"));
  testing::GgufWriter removes = WriterOf(Pieces(kSmall));
  removes.AddBool("tokenizer.ggml.remove_extra_whitespaces", true);
  EXPECT_THAT(ErrorOf(removes), HasSubstr("remove_extra_whitespaces"));
  std::vector<Piece> pieces = Pieces(kSmall);
  pieces[2 + 65].text = "<0xZZ>";
  EXPECT_THAT(ErrorOf(WriterOf(pieces)), HasSubstr("byte token 67"));
  pieces[2 + 65] = {"x", -9};
  EXPECT_THAT(ErrorOf(WriterOf(pieces)), HasSubstr("no byte token for byte 65"));
  pieces = Pieces(kSmall);
  pieces.back().score = std::nanf("");
  EXPECT_THAT(ErrorOf(WriterOf(pieces)), HasSubstr("scores: id 263"));
  pieces = Pieces(kSmall);
  pieces[259].type = 5;
  EXPECT_THAT(ErrorOf(WriterOf(pieces)), HasSubstr("unused"));
  pieces = Pieces(kSmall);
  pieces.push_back({std::string(kMaxScoredPieceBytes + 1, 'a'), -1});
  EXPECT_THAT(ErrorOf(WriterOf(pieces)), HasSubstr("limit 512"));
}

TEST(SentencePieceVocabularyTest, EqualScoresMergeAsEqualsButCannotBeWritten) {
  std::vector<Piece> pieces = Pieces(kSmall);
  pieces[260].score = -1;  // "bc", as "ab"
  const auto vocabulary = Load(WriterOf(pieces));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_THAT(vocabulary->merge_ranks, ElementsAre(0, 0, 1, 1));
  const absl::Status status = TokenizerJson(*vocabulary).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"bc\""));
}

// A tokenizer.json that was trained as such has one way to make a piece: ranks as they stand.
TEST(SentencePieceVocabularyTest, MergesThatWereNotMadeFromScoresKeepTheirRanks) {
  const auto vocabulary = Load(WriterOf(Pieces(kSmall)));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  std::string json = *TokenizerJson(*vocabulary);
  const auto again = ReadTokenizerJson("t", *ParseJson(json));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->merge_ranks, vocabulary->merge_ranks);
  const std::string cut = "\"a bc\",\n";
  json.erase(json.find(cut), cut.size());
  const auto trained = ReadTokenizerJson("t", *ParseJson(json));
  ASSERT_TRUE(trained.ok()) << trained.status();
  EXPECT_TRUE(trained->merge_ranks.empty());
  EXPECT_EQ(trained->merges.size(), 3u);
}

TEST(SentencePieceVocabularyTest, OtherNormalizersAreShown) {
  const auto vocabulary = Load(WriterOf(Pieces(kSmall)));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  std::string json = *TokenizerJson(*vocabulary);
  json.replace(json.find("\"Prepend\""), 9, "\"Lowercase\"");
  const absl::Status status = ReadTokenizerJson("t", *ParseJson(json)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("Lowercase"));
}

}  // namespace
}  // namespace krait
