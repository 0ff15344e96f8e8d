#include "common/fast_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace krait::fast_math {
namespace {

// |value - exact| in units of the last place of a float near `exact`.
double UlpError(float value, double exact) {
  const float rounded = static_cast<float>(exact);
  const double ulp = double{std::nextafter(std::abs(rounded), INFINITY)} - std::abs(rounded);
  return std::abs(value - exact) / ulp;
}

TEST(FastMathTest, ExpIsAccurateOverItsWholeRange) {
  double worst = 0;
  for (double x = -87.0; x < 88.7; x += 0.000173) {
    const float argument = static_cast<float>(x);
    worst = std::max(worst, UlpError(Exp(argument), std::exp(double{argument})));
  }
  EXPECT_LT(worst, 1.1);
}

TEST(FastMathTest, ExpOfItsLimits) {
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-INFINITY), 0.0f);
  EXPECT_EQ(Exp(-105.0f), 0.0f);
  EXPECT_GT(Exp(-103.0f), 0.0f);  // subnormal
  EXPECT_EQ(Exp(89.0f), INFINITY);
  EXPECT_EQ(Exp(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(FastMathTest, LogIsAccurateWhereTheNoiseUsesIt) {
  double worst = 0;
  for (double x = 1e-10; x < 24.0; x *= 1.00003) {
    const float argument = static_cast<float>(x);
    worst = std::max(worst, UlpError(Log(argument), std::log(double{argument})));
  }
  EXPECT_LT(worst, 1.5);
  EXPECT_EQ(Log(1.0f), 0.0f);
}

TEST(FastMathTest, Log1pIsAccurateForTinyAndForLargeArguments) {
  double worst = 0;
  for (double v = 1e-10; v < 0.9999999; v = v < 0.5 ? v * 1.0001 : v + 0.00001) {
    const float argument = -static_cast<float>(v);
    worst = std::max(worst, UlpError(Log1p(argument), std::log1p(double{argument})));
  }
  EXPECT_LT(worst, 3.0);
  EXPECT_EQ(Log1p(0.0f), 0.0f);
}

TEST(FastMathTest, Log1pIsAccurateUpToOne) {
  double worst = 0;
  for (double v = 1e-10; v <= 1.0; v = v < 0.5 ? v * 1.0001 : v + 0.00001) {
    const float argument = static_cast<float>(v);
    worst = std::max(worst, UlpError(Log1p(argument), std::log1p(double{argument})));
  }
  EXPECT_LT(worst, 3.0);
}

TEST(FastMathTest, SoftplusIsAccurateAndDoesNotOverflow) {
  double worst = 0;
  for (double x = -80.0; x < 80.0; x += 0.000373) {
    const float argument = static_cast<float>(x);
    worst = std::max(worst, UlpError(Softplus(argument), std::log1p(std::exp(double{argument}))));
  }
  EXPECT_LT(worst, 3.0);
  EXPECT_EQ(Softplus(1e30f), 1e30f);
  EXPECT_EQ(Softplus(-1e30f), 0.0f);
  EXPECT_TRUE(std::isnan(Softplus(std::numeric_limits<float>::quiet_NaN())));
}

TEST(FastMathTest, SiluOfItsLimits) {
  EXPECT_EQ(Silu(0.0f), 0.0f);
  EXPECT_EQ(Silu(1e30f), 1e30f);
  EXPECT_EQ(Silu(-1e30f), -0.0f);
  EXPECT_NEAR(Silu(-1.0f), -0.2689414, 1e-7);
}

}  // namespace
}  // namespace krait::fast_math
