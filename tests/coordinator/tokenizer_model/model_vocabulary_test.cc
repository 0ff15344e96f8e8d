#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "coordinator/tokenizer/piece_table.h"
#include "coordinator/tokenizer/word_merger.h"
#include "tests/coordinator/tokenizer_model/model_file.h"

namespace krait {
namespace {

TEST(SmolLm2VocabularyTest, HasWhatTheFileSays) {
  const Vocabulary* vocabulary = testing::ModelVocabulary();
  ASSERT_NE(vocabulary, nullptr);
  EXPECT_EQ(vocabulary->pieces.size(), 49152u);
  EXPECT_EQ(vocabulary->merges.size(), 48900u);
  EXPECT_EQ(vocabulary->pre_tokenizer, "smollm");
  EXPECT_EQ(vocabulary->eos_ids, std::vector<TokenId>{2});
  EXPECT_EQ(vocabulary->pieces[2], "<|im_end|>");
  EXPECT_EQ(vocabulary->kinds[2], TokenKind::kControl);
  EXPECT_FALSE(vocabulary->add_bos);
}

TEST(SmolLm2VocabularyTest, SpellingOfAControlTokenIsPlainTextUnlessAllowed) {
  const Tokenizer* tokenizer = testing::ModelTokenizer();
  ASSERT_NE(tokenizer, nullptr);
  const std::string text = "a<|im_end|>b<|endoftext|>";
  const std::vector<TokenId> plain = *tokenizer->Encode(text, false);
  EXPECT_TRUE(std::none_of(plain.begin(), plain.end(),
                           [&](TokenId id) { return tokenizer->IsSpecial(id); }));
  EXPECT_EQ(*tokenizer->Decode(plain, true), text);
  const std::vector<TokenId> special = *tokenizer->Encode(text, true);
  ASSERT_EQ(special.size(), 4u);
  EXPECT_EQ(special[1], 2);
  EXPECT_EQ(special[3], 0);
  EXPECT_EQ(*tokenizer->Decode(special, true), "ab");
}

// Of this thread alone: other work on the machine does not count.
double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double CpuSecondsToEncode(const Tokenizer& tokenizer, const std::string& text) {
  const double start = CpuSeconds();
  EXPECT_TRUE(tokenizer.Encode(text, false).ok());
  return CpuSeconds() - start;
}

std::string Repeat(const std::string& unit, size_t num_bytes) {
  std::string text;
  while (text.size() < num_bytes) text += unit;
  return text;
}

constexpr size_t kSmall = 64 << 10;
constexpr size_t kLarge = 1 << 20;
const char* const kUnits[] = {"a", " ", "\xf0\x9f\x98\x80", "\xcc\x81", "7"};

// What merging does for one word of `text`, counted: no clock, so no neighbour can disturb it.
int64_t StepsToMerge(const WordMerger& merger, const PieceTable& pieces, const std::string& text) {
  std::vector<TokenId> symbols, ids;
  for (char byte : text) symbols.push_back(pieces.OfByte(static_cast<uint8_t>(byte)));
  WordMerger::Scratch scratch;
  merger.Merge(symbols, scratch, ids);
  EXPECT_LE(scratch.cells.capacity(), 4 * WordMerger::kDefaultWindow);
  return scratch.num_steps();
}

TEST(SmolLm2VocabularyTest, StepsForOneRepeatedCharacterGrowAsItsLength) {
  ASSERT_NE(testing::ModelVocabulary(), nullptr);
  const WordMerger merger(*testing::ModelVocabulary());
  const auto pieces = PieceTable::Create(*testing::ModelVocabulary());
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  for (const std::string unit : kUnits) {
    const int64_t small = StepsToMerge(merger, *pieces, Repeat(unit, kSmall));
    const int64_t large = StepsToMerge(merger, *pieces, Repeat(unit, kLarge));
    EXPECT_LE(large, 17 * small) << unit.size() << " bytes a character";
  }
}

// Quadratic merging or splitting would take 256 times as long, and hours at the sizes of an attack.
// Time that the thread itself used, the least of several runs: what else the machine does can only
// add to it, so the runs end when the bound holds.
TEST(SmolLm2VocabularyTest, TimeForOneRepeatedCharacterGrowsHardlyFasterThanItsLength) {
  const Tokenizer* tokenizer = testing::ModelTokenizer();
  ASSERT_NE(tokenizer, nullptr);
  for (const std::string unit : kUnits) {
    double small = 1e9, large = 1e9;
    for (int repeat = 0; repeat < 4 || (repeat < 40 && large > 24 * small); ++repeat) {
      small = std::min(small, CpuSecondsToEncode(*tokenizer, Repeat(unit, kSmall)));
      large = std::min(large, CpuSecondsToEncode(*tokenizer, Repeat(unit, kLarge)));
    }
    std::printf("unit of %zu bytes: 64 KiB %.2f ms, 1 MiB %.2f ms, ratio %.1f\n", unit.size(),
                small * 1e3, large * 1e3, large / small);
    EXPECT_LE(large, 24 * small);
  }
}

}  // namespace
}  // namespace krait
