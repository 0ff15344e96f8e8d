#include "worker/layers/rotary.h"

#include <gtest/gtest.h>

#include <cmath>

namespace krait {
namespace {

float At(const TensorView& table, int64_t position, int64_t i) {
  return table.row<const float>(position)[i];
}

TEST(RotaryTablesTest, PositionZeroDoesNotRotate) {
  const auto backend = CreateCpuBackend({});
  const RotaryTables tables = *RotaryTables::Create(4, 8, {.theta = 10000.0f}, backend.get());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(At(tables.cos(), 0, i), 1.0f);
    EXPECT_EQ(At(tables.sin(), 0, i), 0.0f);
  }
}

// theta 100,000 and head_dim 64 are SmolLM2's. The angle of (8191, i = 5) in float32 arithmetic:
// 100000^(10/64) rounds to 6.0429640, its reciprocal to 0.16548170, times 8191 to 1355.4606.
TEST(RotaryTablesTest, AnglesAreFloat32AtLongPositions) {
  const auto backend = CreateCpuBackend({});
  const RotaryTables tables = *RotaryTables::Create(8192, 64, {.theta = 100000.0f}, backend.get());
  for (const int i : {0, 1, 5, 17, 31}) {
    const float power = static_cast<float>(std::pow(100000.0, 2.0 * i / 64.0));
    const float inverse = 1.0f / power;
    const float angle = 8191.0f * inverse;
    EXPECT_FLOAT_EQ(At(tables.cos(), 8191, i), static_cast<float>(std::cos(double{angle}))) << i;
    EXPECT_FLOAT_EQ(At(tables.sin(), 8191, i), static_cast<float>(std::sin(double{angle}))) << i;
  }
}

TEST(RotaryTablesTest, SquaresAddUpToOne) {
  const auto backend = CreateCpuBackend({});
  const RotaryTables tables = *RotaryTables::Create(300, 16, {.theta = 10000.0f}, backend.get());
  for (int64_t position = 0; position < 300; position += 37) {
    for (int i = 0; i < 8; ++i) {
      const double cos = At(tables.cos(), position, i), sin = At(tables.sin(), position, i);
      EXPECT_NEAR(cos * cos + sin * sin, 1.0, 1e-6);
    }
  }
}

// What transformers 4.45.2 computes (modeling_rope_utils.py, _compute_llama3_parameters) for Llama
// 3.1's own numbers: a pair that stays, two that are mixed, two that are divided.
TEST(RopeFrequenciesTest, Llama3sAreThoseOfTransformers) {
  const std::vector<float> frequencies =
      RopeFrequencies(128, {.theta = 500000,
                            .scaling = Llama3RopeScaling{.factor = 8,
                                                         .low_freq_factor = 1,
                                                         .high_freq_factor = 4,
                                                         .original_max_positions = 8192}});
  ASSERT_EQ(frequencies.size(), 64u);
  EXPECT_FLOAT_EQ(frequencies[1], 0.8146172165870667f);
  EXPECT_FLOAT_EQ(frequencies[28], 0.0032114461064338684f);
  EXPECT_FLOAT_EQ(frequencies[29], 0.0021665706299245358f);
  EXPECT_FLOAT_EQ(frequencies[34], 0.0001785077911335975f);
  EXPECT_FLOAT_EQ(frequencies[35], 9.556212171446532e-05f);
  EXPECT_FLOAT_EQ(frequencies[63], 3.068925877869333e-07f);
}

TEST(RopeFrequenciesTest, LinearScalingAndDivisorsDivide) {
  const std::vector<float> plain = RopeFrequencies(8, {.theta = 10000});
  const std::vector<float> linear =
      RopeFrequencies(8, {.theta = 10000, .scaling = LinearRopeScaling{4}});
  const std::vector<float> divided =
      RopeFrequencies(8, {.theta = 10000, .scaling = RopeDivisors{{1, 2, 3, 5}}});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(linear[i], plain[i] / 4);
  const float divisors[] = {1, 2, 3, 5};
  for (int i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(divided[i], plain[i] / divisors[i]);
}

}  // namespace
}  // namespace krait
