#pragma once

#include <bit>
#include <cstdint>

namespace krait {

// bfloat16 as its 16 bits. Rounding is to nearest, ties to even; NaN stays NaN.
using Bf16 = uint16_t;

inline Bf16 ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<Bf16>((bits >> 16) | 0x40u);
  return static_cast<Bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float FromBf16(Bf16 value) { return std::bit_cast<float>(uint32_t{value} << 16); }

}  // namespace krait
