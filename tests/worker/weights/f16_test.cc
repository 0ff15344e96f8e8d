#include "worker/weights/f16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

namespace krait {
namespace {

TEST(F16Test, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = FromF16(static_cast<F16>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FromF16(ToF16(value)))) << bits;
    } else {
      EXPECT_EQ(ToF16(value), bits) << value;
    }
  }
}

// A finite number's place is sign, exponent, mantissa: the value by the definition of the format.
TEST(F16Test, WidensByTheDefinition) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const int exponent = static_cast<int>(bits >> 10);
    const double mantissa = static_cast<double>(bits & 1023) / 1024;
    const double value =
        exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1 + mantissa, exponent - 15);
    EXPECT_EQ(FromF16(static_cast<F16>(bits)), value);
    EXPECT_EQ(FromF16(static_cast<F16>(bits | 0x8000)), -value);
  }
}

TEST(F16Test, RoundsToNearestAndTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = FromF16(static_cast<F16>(bits));
    const double high = FromF16(static_cast<F16>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);  // exact: one bit more
    EXPECT_EQ(ToF16(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    EXPECT_EQ(ToF16(std::nextafter(middle, 0.0f)), bits);
    EXPECT_EQ(ToF16(std::nextafter(middle, 1e9f)), bits + 1);
  }
  EXPECT_EQ(ToF16(65519.99f), 0x7bff);
  EXPECT_EQ(ToF16(65520.0f), 0x7c00);
  EXPECT_EQ(ToF16(-1e30f), 0xfc00);
}

}  // namespace
}  // namespace krait
