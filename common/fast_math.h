#pragma once

// exp, log and log1p in float with the same bits on every device and at every vector width: a fixed
// sequence of IEEE operations with explicit fused multiply-adds. The C library's differ between
// versions and from a GPU's. Scalar form here; kernels/cpu/vec8-inl.h instantiates the same text
// for vectors.

#include <bit>
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define KRAIT_HOST_DEVICE __host__ __device__
#else
#define KRAIT_HOST_DEVICE
#endif

namespace krait::fast_math {

// The operations that the .inc files are written in, for one lane.
using F32 = float;
using U32 = uint32_t;
using Mask = bool;

KRAIT_HOST_DEVICE inline F32 SetF32(float value) { return value; }
KRAIT_HOST_DEVICE inline U32 SetU32(uint32_t value) { return value; }
KRAIT_HOST_DEVICE inline F32 Add(F32 a, F32 b) { return a + b; }
KRAIT_HOST_DEVICE inline F32 Sub(F32 a, F32 b) { return a - b; }
KRAIT_HOST_DEVICE inline F32 Mul(F32 a, F32 b) { return a * b; }
KRAIT_HOST_DEVICE inline F32 Div(F32 a, F32 b) { return a / b; }
KRAIT_HOST_DEVICE inline F32 Fma(F32 a, F32 b, F32 c) {  // a b + c, rounded once
#if defined(__CUDA_ARCH__)
  return fmaf(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
KRAIT_HOST_DEVICE inline Mask Greater(F32 a, F32 b) { return a > b; }
KRAIT_HOST_DEVICE inline F32 Select(Mask mask, F32 yes, F32 no) { return mask ? yes : no; }
KRAIT_HOST_DEVICE inline U32 Bits(F32 value) { return std::bit_cast<uint32_t>(value); }
KRAIT_HOST_DEVICE inline F32 FromBits(U32 bits) { return std::bit_cast<float>(bits); }
KRAIT_HOST_DEVICE inline U32 Add(U32 a, U32 b) { return a + b; }
KRAIT_HOST_DEVICE inline U32 Sub(U32 a, U32 b) { return a - b; }
KRAIT_HOST_DEVICE inline U32 Xor(U32 a, U32 b) { return a ^ b; }
KRAIT_HOST_DEVICE inline U32 And(U32 a, U32 b) { return a & b; }
template <int kBits>
KRAIT_HOST_DEVICE inline U32 ShiftLeftBits(U32 a) {
  return a << kBits;
}
template <int kBits>
KRAIT_HOST_DEVICE inline U32 ShiftRightBits(U32 a) {  // zeros come in
  return a >> kBits;
}
template <int kBits>
KRAIT_HOST_DEVICE inline U32 ShiftRightSigned(U32 a) {  // copies of the top bit come in
  return static_cast<U32>(static_cast<int32_t>(a) >> kBits);
}
// The integer in `a`, as two's complement, exactly; |a| < 2^24.
KRAIT_HOST_DEVICE inline F32 SignedToF32(U32 a) {
  return static_cast<float>(static_cast<int32_t>(a));
}
KRAIT_HOST_DEVICE inline U32 MulLow(U32 a, U32 b) { return a * b; }
KRAIT_HOST_DEVICE inline U32 MulHigh(U32 a, U32 b) {
  return static_cast<U32>((static_cast<uint64_t>(a) * b) >> 32);
}

#define KRAIT_MATH_INLINE KRAIT_HOST_DEVICE inline
#include "common/fast_math.inc"
#include "common/gumbel.inc"
#include "common/philox.inc"
#undef KRAIT_MATH_INLINE

}  // namespace krait::fast_math
