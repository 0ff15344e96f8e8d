// Eight virtual lanes: the width that sums are spread over on every machine, so that their order,
// and with it their bits, is the same everywhere. The static target's pass of a file gets plain
// arrays and std::fma (the target "scalar", the twin of the others), every other pass registers.
//
// Include after hwy/highway.h in a file compiled by hwy/foreach_target.h.

#if defined(KRAIT_KERNELS_CPU_VEC8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_CPU_VEC8_INL_H_
#undef KRAIT_KERNELS_CPU_VEC8_INL_H_
#else
#define KRAIT_KERNELS_CPU_VEC8_INL_H_
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/fast_math.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

inline constexpr int kLanes = 8;

#if HWY_TARGET == HWY_STATIC_TARGET

template <typename T>
struct Array8 {
  T lane[kLanes];
};
using F32 = Array8<float>;
using U32 = Array8<uint32_t>;
using Mask = Array8<bool>;

template <typename R, typename Function>
inline Array8<R> MakeLanes(Function function) {
  Array8<R> out;
  for (int i = 0; i < kLanes; ++i) out.lane[i] = function(i);
  return out;
}

#define KRAIT_LANEWISE2(R, Name, A, B)                                                 \
  inline Array8<R> Name(Array8<A> a, Array8<B> b) {                                    \
    return MakeLanes<R>([&](int i) { return fast_math::Name(a.lane[i], b.lane[i]); }); \
  }
KRAIT_LANEWISE2(float, Add, float, float)
KRAIT_LANEWISE2(float, Sub, float, float)
KRAIT_LANEWISE2(float, Mul, float, float)
KRAIT_LANEWISE2(float, Div, float, float)
KRAIT_LANEWISE2(bool, Greater, float, float)
KRAIT_LANEWISE2(uint32_t, Add, uint32_t, uint32_t)
KRAIT_LANEWISE2(uint32_t, Sub, uint32_t, uint32_t)
KRAIT_LANEWISE2(uint32_t, Xor, uint32_t, uint32_t)
KRAIT_LANEWISE2(uint32_t, And, uint32_t, uint32_t)
KRAIT_LANEWISE2(uint32_t, MulLow, uint32_t, uint32_t)
KRAIT_LANEWISE2(uint32_t, MulHigh, uint32_t, uint32_t)
#undef KRAIT_LANEWISE2

inline F32 SetF32(float value) {
  return MakeLanes<float>([&](int) { return value; });
}
inline U32 SetU32(uint32_t value) {
  return MakeLanes<uint32_t>([&](int) { return value; });
}
// first, first + 1, ...
inline U32 Iota(uint32_t first) {
  return MakeLanes<uint32_t>([&](int i) { return first + static_cast<uint32_t>(i); });
}
inline F32 Load(const float* from) {
  return MakeLanes<float>([&](int i) { return from[i]; });
}
inline U32 Load(const uint32_t* from) {
  return MakeLanes<uint32_t>([&](int i) { return from[i]; });
}
inline void Store(F32 value, float* to) { std::memcpy(to, value.lane, sizeof(value.lane)); }
inline void Store(U32 value, uint32_t* to) { std::memcpy(to, value.lane, sizeof(value.lane)); }
inline F32 Fma(F32 a, F32 b, F32 c) {
  return MakeLanes<float>([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
inline F32 Select(Mask mask, F32 yes, F32 no) {
  return MakeLanes<float>([&](int i) { return mask.lane[i] ? yes.lane[i] : no.lane[i]; });
}
inline U32 Bits(F32 value) {
  return MakeLanes<uint32_t>([&](int i) { return fast_math::Bits(value.lane[i]); });
}
inline F32 FromBits(U32 bits) {
  return MakeLanes<float>([&](int i) { return fast_math::FromBits(bits.lane[i]); });
}
template <int kBits>
inline U32 ShiftLeftBits(U32 a) {
  return MakeLanes<uint32_t>([&](int i) { return a.lane[i] << kBits; });
}
template <int kBits>
inline U32 ShiftRightBits(U32 a) {
  return MakeLanes<uint32_t>([&](int i) { return a.lane[i] >> kBits; });
}
template <int kBits>
inline U32 ShiftRightSigned(U32 a) {
  return MakeLanes<uint32_t>([&](int i) { return fast_math::ShiftRightSigned<kBits>(a.lane[i]); });
}
inline F32 SignedToF32(U32 a) {
  return MakeLanes<float>([&](int i) { return fast_math::SignedToF32(a.lane[i]); });
}
inline bool AnyGreater(F32 a, F32 b) {
  bool any = false;
  for (int i = 0; i < kLanes; ++i) any |= a.lane[i] > b.lane[i];
  return any;
}
// to[4 i + w] = word w of lane i.
inline void StoreInterleaved(U32 w0, U32 w1, U32 w2, U32 w3, uint32_t* to) {
  for (int i = 0; i < kLanes; ++i) {
    to[4 * i] = w0.lane[i];
    to[4 * i + 1] = w1.lane[i];
    to[4 * i + 2] = w2.lane[i];
    to[4 * i + 3] = w3.lane[i];
  }
}
// The lanes' sum as the tree ((0+4)+(2+6)) + ((1+5)+(3+7)).
inline float SumLanes(F32 a) {
  const float* x = a.lane;
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}
// Lane i: SumLanes(a[i]).
inline F32 SumLanesOfEach(const F32 (&a)[kLanes]) {
  return MakeLanes<float>([&](int i) { return SumLanes(a[i]); });
}
inline F32 Larger(F32 a, F32 b) { return Select(Greater(b, a), b, a); }

#else  // registers

namespace hn = hwy::HWY_NAMESPACE;
using TagF = hn::FixedTag<float, kLanes>;
using TagU = hn::FixedTag<uint32_t, kLanes>;
using TagI = hn::FixedTag<int32_t, kLanes>;
using F32 = hn::Vec<TagF>;
using U32 = hn::Vec<TagU>;
using Mask = hn::Mask<TagF>;

HWY_INLINE F32 SetF32(float value) { return hn::Set(TagF(), value); }
HWY_INLINE U32 SetU32(uint32_t value) { return hn::Set(TagU(), value); }
HWY_INLINE U32 Iota(uint32_t first) { return hn::Iota(TagU(), first); }
HWY_INLINE F32 Load(const float* from) { return hn::LoadU(TagF(), from); }
HWY_INLINE U32 Load(const uint32_t* from) { return hn::LoadU(TagU(), from); }
HWY_INLINE void Store(F32 value, float* to) { hn::StoreU(value, TagF(), to); }
HWY_INLINE void Store(U32 value, uint32_t* to) { hn::StoreU(value, TagU(), to); }
HWY_INLINE F32 Add(F32 a, F32 b) { return hn::Add(a, b); }
HWY_INLINE F32 Sub(F32 a, F32 b) { return hn::Sub(a, b); }
HWY_INLINE F32 Mul(F32 a, F32 b) { return hn::Mul(a, b); }
HWY_INLINE F32 Div(F32 a, F32 b) { return hn::Div(a, b); }
HWY_INLINE F32 Fma(F32 a, F32 b, F32 c) { return hn::MulAdd(a, b, c); }
HWY_INLINE Mask Greater(F32 a, F32 b) { return hn::Gt(a, b); }
HWY_INLINE F32 Select(Mask mask, F32 yes, F32 no) { return hn::IfThenElse(mask, yes, no); }
HWY_INLINE U32 Bits(F32 value) { return hn::BitCast(TagU(), value); }
HWY_INLINE F32 FromBits(U32 bits) { return hn::BitCast(TagF(), bits); }
HWY_INLINE U32 Add(U32 a, U32 b) { return hn::Add(a, b); }
HWY_INLINE U32 Sub(U32 a, U32 b) { return hn::Sub(a, b); }
HWY_INLINE U32 Xor(U32 a, U32 b) { return hn::Xor(a, b); }
HWY_INLINE U32 And(U32 a, U32 b) { return hn::And(a, b); }
HWY_INLINE U32 MulLow(U32 a, U32 b) { return hn::Mul(a, b); }
HWY_INLINE U32 MulHigh(U32 a, U32 b) {
  const hn::Repartition<uint64_t, TagU> wide;
  const auto even = hn::MulEven(a, b);
  const auto odd = hn::MulEven(hn::BitCast(TagU(), hn::ShiftRight<32>(hn::BitCast(wide, a))),
                               hn::BitCast(TagU(), hn::ShiftRight<32>(hn::BitCast(wide, b))));
  return hn::OddEven(hn::BitCast(TagU(), odd), hn::BitCast(TagU(), hn::ShiftRight<32>(even)));
}
template <int kBits>
HWY_INLINE U32 ShiftLeftBits(U32 a) {
  return hn::ShiftLeft<kBits>(a);
}
template <int kBits>
HWY_INLINE U32 ShiftRightBits(U32 a) {
  return hn::ShiftRight<kBits>(a);
}
template <int kBits>
HWY_INLINE U32 ShiftRightSigned(U32 a) {
  return hn::BitCast(TagU(), hn::ShiftRight<kBits>(hn::BitCast(TagI(), a)));
}
HWY_INLINE F32 SignedToF32(U32 a) { return hn::ConvertTo(TagF(), hn::BitCast(TagI(), a)); }
HWY_INLINE bool AnyGreater(F32 a, F32 b) { return !hn::AllFalse(TagF(), hn::Gt(a, b)); }
HWY_INLINE void StoreInterleaved(U32 w0, U32 w1, U32 w2, U32 w3, uint32_t* to) {
  hn::StoreInterleaved4(w0, w1, w2, w3, TagU(), to);
}
HWY_INLINE float SumLanes(F32 a) {
  const hn::FixedTag<float, 4> four;
  const auto quad = hn::Add(hn::LowerHalf(four, a), hn::UpperHalf(hn::Half<TagF>(), a));
  const auto pair = hn::Add(quad, hn::Shuffle1032(quad));
  return hn::GetLane(hn::Add(pair, hn::Shuffle2301(pair)));
}
// The tree's first two levels for vectors a and b in the low half and c and d in the high half: two
// numbers each.
HWY_INLINE F32 PairSums(F32 a, F32 b, F32 c, F32 d) {
  const hn::Repartition<uint64_t, TagF> pairs;
  const auto quads = [](F32 low, F32 high) HWY_ATTR {
    return hn::Add(hn::ConcatLowerLower(TagF(), high, low),
                   hn::ConcatUpperUpper(TagF(), high, low));
  };
  const auto ac = hn::BitCast(pairs, quads(a, c)), bd = hn::BitCast(pairs, quads(b, d));
  return hn::Add(hn::BitCast(TagF(), hn::InterleaveLower(pairs, ac, bd)),
                 hn::BitCast(TagF(), hn::InterleaveUpper(pairs, ac, bd)));
}
HWY_INLINE F32 SumLanesOfEach(const F32 (&a)[kLanes]) {
  const F32 low = PairSums(a[0], a[1], a[2], a[3]), high = PairSums(a[4], a[5], a[6], a[7]);
  return hn::ConcatEven(TagF(), hn::Add(high, hn::Shuffle2301(high)),
                        hn::Add(low, hn::Shuffle2301(low)));
}
HWY_INLINE F32 Larger(F32 a, F32 b) { return Select(Greater(b, a), b, a); }

#endif

#define KRAIT_MATH_INLINE HWY_INLINE
#include "common/fast_math.inc"
#include "common/gumbel.inc"
#include "common/philox.inc"
#undef KRAIT_MATH_INLINE

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#endif
