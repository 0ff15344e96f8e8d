#include "kernels/ops/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/paged_attention_scene.h"

namespace krait::kernels {
namespace {

class PagedAttentionTest : public ::testing::TestWithParam<BackendVariant> {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeBackend(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Variants, PagedAttentionTest, ::testing::ValuesIn(AllVariants()),
                         ::testing::PrintToStringParamName());

TEST_P(PagedAttentionTest, AgreesWithADoublePrecisionSoftmaxOverItsOwnKeysOnly) {
  Scene scenes[] = {
      {3, 1, 8, 8, {{1, 1}, {9, 9}, {140, 3}}},
      {9, 3, 64, 16, {{300, 2}, {128, 1}, {129, 1}}},
      {4, 2, 80, 16, {{33, 5}}},
      {2, 2, 128, 8, {{257, 1}, {20, 20}}},
  };
  for (Scene& scene : scenes) {
    const std::vector<float> out = scene.Run(*backend_, AllTokens(scene));
    for (size_t i = 0; i < out.size(); ++i) {
      const int d = static_cast<int>(i) % scene.head_dim;
      const int row = static_cast<int>(i) / scene.head_dim;
      ASSERT_NEAR(out[i], scene.Oracle(row / scene.heads, row % scene.heads, d), 3e-6)
          << "token " << row / scene.heads << " head " << row % scene.heads << " d " << d;
    }
  }
}

// Decoding, verification and prefill of the same position give the same bits, on every instruction
// set and with any number of threads.
TEST_P(PagedAttentionTest, ATokenHasTheBitsOfThePlainTwinAlone) {
  const auto plain = MakeBackend(PlainVariant());
  Scene scene(9, 3, 64, 16, {{40, 40}, {270, 20}, {131, 5}, {1, 1}});
  const std::vector<int> tokens = AllTokens(scene);
  const int64_t width = scene.heads * scene.head_dim;
  const std::vector<float> all = scene.Run(*backend_, tokens);
  for (int token : tokens) {
    const std::vector<float> among(all.begin() + token * width, all.begin() + (token + 1) * width);
    ASSERT_EQ(BitsOf(scene.Run(*plain, {token})), BitsOf(among)) << "token " << token;
    ASSERT_EQ(BitsOf(scene.Run(*backend_, {token})), BitsOf(among)) << "token " << token;
  }
}

TEST_P(PagedAttentionTest, ChunksOfAPrefillHaveTheBitsOfTheWhole) {
  Scene scene(6, 2, 64, 8, {{150, 150}});
  const std::vector<float> whole = scene.Run(*backend_, AllTokens(scene));
  std::vector<float> chunked;
  for (int begin = 0; begin < 150; begin += 37) {
    std::vector<int> chunk;
    for (int t = begin; t < std::min(begin + 37, 150); ++t) chunk.push_back(t);
    const std::vector<float> out = scene.Run(*backend_, chunk);
    chunked.insert(chunked.end(), out.begin(), out.end());
  }
  EXPECT_EQ(BitsOf(chunked), BitsOf(whole));
}

// Windows that end in the first split, at its border and far behind it, and that begin anywhere in
// a vector of eight keys.
constexpr int kWindows[] = {1, 5, 8, 64, 127, 128, 129, 200};

TEST_P(PagedAttentionTest, AWindowIsASoftmaxOverItsLastKeysOnly) {
  for (int window : kWindows) {
    Scene scene(6, 2, 16, 8, {{300, 9}, {129, 4}, {150, 150}, {1, 1}});
    scene.window = window;
    const std::vector<float> out = scene.Run(*backend_, AllTokens(scene));
    for (size_t i = 0; i < out.size(); ++i) {
      const int d = static_cast<int>(i) % scene.head_dim;
      const int row = static_cast<int>(i) / scene.head_dim;
      ASSERT_NEAR(out[i], scene.Oracle(row / scene.heads, row % scene.heads, d), 3e-6)
          << "window " << window << " token " << row / scene.heads;
    }
  }
}

TEST_P(PagedAttentionTest, AWindowedTokenHasTheBitsOfThePlainTwinAlone) {
  const auto plain = MakeBackend(PlainVariant());
  for (int window : kWindows) {
    Scene scene(6, 2, 16, 8, {{40, 40}, {270, 20}, {131, 5}});
    scene.window = window;
    const std::vector<int> tokens = AllTokens(scene);
    const int64_t width = scene.heads * scene.head_dim;
    const std::vector<float> all = scene.Run(*backend_, tokens);
    for (int token : tokens) {
      const std::vector<float> among(all.begin() + token * width,
                                     all.begin() + (token + 1) * width);
      ASSERT_EQ(BitsOf(scene.Run(*plain, {token})), BitsOf(among)) << window << " " << token;
      ASSERT_EQ(BitsOf(scene.Run(*backend_, {token})), BitsOf(among)) << window << " " << token;
    }
  }
}

TEST_P(PagedAttentionTest, KeysBeforeTheWindowAreNeverRead) {
  for (int window : kWindows) {
    Scene scene(6, 2, 16, 8, {{300, 3}, {137, 1}});
    scene.window = window;
    const std::vector<float> expected = scene.Run(*backend_, AllTokens(scene));
    scene.PoisonUnseenKeys();
    EXPECT_EQ(BitsOf(scene.Run(*backend_, AllTokens(scene))), BitsOf(expected)) << window;
  }
}

TEST_P(PagedAttentionTest, AWindowThatHoldsEverythingChangesNoBit) {
  Scene scene(6, 2, 16, 8, {{270, 30}});
  const std::vector<float> expected = scene.Run(*backend_, AllTokens(scene));
  for (int window : {270, 1000}) {
    scene.window = window;
    EXPECT_EQ(BitsOf(scene.Run(*backend_, AllTokens(scene))), BitsOf(expected));
  }
}

TEST_P(PagedAttentionTest, LargeScoresDoNotOverflow) {
  Scene scene(1, 1, 8, 8, {{200, 1}});
  for (float& value : scene.q) value *= 1000.0f;
  const std::vector<float> out = scene.Run(*backend_, {0});
  for (float value : out) EXPECT_TRUE(std::isfinite(value));
}

}  // namespace
}  // namespace krait::kernels
