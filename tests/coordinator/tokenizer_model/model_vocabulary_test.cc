#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

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

// Quadratic merging or splitting would take 256 times as long, and hours at the sizes of an attack.
TEST(SmolLm2VocabularyTest, TimeForOneRepeatedCharacterGrowsHardlyFasterThanItsLength) {
  const Tokenizer* tokenizer = testing::ModelTokenizer();
  ASSERT_NE(tokenizer, nullptr);
  for (const std::string unit : {"a", " ", "\xf0\x9f\x98\x80", "\xcc\x81", "7"}) {
    double small = 1e9, large = 1e9;
    for (int repeat = 0; repeat < 4; ++repeat) {
      small = std::min(small, CpuSecondsToEncode(*tokenizer, Repeat(unit, 64 << 10)));
      large = std::min(large, CpuSecondsToEncode(*tokenizer, Repeat(unit, 1 << 20)));
    }
    std::printf("unit of %zu bytes: 64 KiB %.2f ms, 1 MiB %.2f ms, ratio %.1f\n", unit.size(),
                small * 1e3, large * 1e3, large / small);
    EXPECT_LE(large, 24 * small);
  }
}

}  // namespace
}  // namespace krait
