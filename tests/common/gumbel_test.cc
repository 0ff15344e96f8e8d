#include "common/gumbel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace krait {
namespace {

// The logarithms in double; v as documented, in float.
double ExactGumbel(uint32_t word) {
  const float v = std::min((static_cast<float>(word) + 0.5f) * 0x1p-32f, 1.0f - 0x1p-24f);
  return -std::log(-std::log1p(-double{v}));
}

TEST(GumbelTest, IsFiniteAtTheEndsOfTheRange) {
  for (uint32_t word : {0u, 1u, 0x80000000u, 0xfffffffeu, 0xffffffffu}) {
    const float noise = fast_math::GumbelFromWord(word);
    EXPECT_TRUE(std::isfinite(noise)) << word;
    EXPECT_NEAR(noise, ExactGumbel(word), 1e-5) << word;
  }
}

TEST(GumbelTest, IsAccurateAndNeverAboveItsBound) {
  for (uint64_t word = 0; word < (uint64_t{1} << 32); word += 9973) {
    const float noise = fast_math::GumbelFromWord(static_cast<uint32_t>(word));
    ASSERT_NEAR(noise, ExactGumbel(static_cast<uint32_t>(word)), 2e-6) << word;
    ASSERT_LT(noise, kMaxGumbel);
  }
  EXPECT_GT(fast_math::GumbelFromWord(0), kMaxGumbel - 0.1f);
}

TEST(GumbelTest, WordsConvertToTheNearestFloat) {
  for (uint64_t word = 0; word < (uint64_t{1} << 32); word += 10007) {
    ASSERT_EQ(fast_math::WordToF32(static_cast<uint32_t>(word)),
              static_cast<float>(static_cast<uint32_t>(word)));
  }
  EXPECT_EQ(fast_math::WordToF32(0xffffffffu), static_cast<float>(0xffffffffu));
}

TEST(GumbelTest, TakesTheWordOfTheDocumentedCounter) {
  const GumbelKey key{.seed = 0x0123456789abcdefu, .position = 1234, .choice = 5};
  const std::array<uint32_t, 4> block =
      Philox4x32({1234, 49151 / 4, 5, 0}, 0x89abcdefu, 0x01234567u);
  EXPECT_EQ(GumbelWord(key, 49151), block[3]);
  EXPECT_EQ(GumbelWord(key, 49148), block[0]);
  EXPECT_EQ(Gumbel(key, 49151), fast_math::GumbelFromWord(block[3]));
}

TEST(GumbelTest, EveryPartOfTheKeyMatters) {
  const GumbelKey base{.seed = 7, .position = 100, .choice = 0};
  const GumbelKey others[] = {
      {8, 100, 0}, {7 + (uint64_t{1} << 32), 100, 0}, {7, 101, 0}, {7, 100, 1}};
  for (const GumbelKey& other : others) EXPECT_NE(GumbelWord(base, 3), GumbelWord(other, 3));
  EXPECT_NE(GumbelWord(base, 3), GumbelWord(base, 4));
}

// A million draws from a softmax by argmax of logit + noise. 44.81 is the 1 - 1e-6 quantile of
// chi-square with 9 degrees of freedom.
TEST(GumbelTest, ArgmaxDrawsFromTheSoftmax) {
  constexpr int kVocabulary = 10, kDraws = 1000000;
  double logits[kVocabulary], total = 0;
  for (int i = 0; i < kVocabulary; ++i) total += std::exp(logits[i] = 0.4 * i - 3.0);
  std::vector<int> counts(kVocabulary);
  for (int draw = 0; draw < kDraws; ++draw) {
    int best = 0;
    float best_score = -INFINITY;
    for (int i = 0; i < kVocabulary; ++i) {
      const float score = static_cast<float>(logits[i]) + Gumbel({42, draw, 0}, i);
      if (score > best_score) best_score = score, best = i;
    }
    ++counts[best];
  }
  double chi_square = 0;
  for (int i = 0; i < kVocabulary; ++i) {
    const double expected = kDraws * std::exp(logits[i]) / total;
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi_square, 44.81);
}

}  // namespace
}  // namespace krait
