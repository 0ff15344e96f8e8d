// S C_t, the products of a head's checkpoint with its tokens' C: the one thing that reads a state.
// Include after vec8-inl.h in a file compiled by hwy/foreach_target.h.

#if defined(KRAIT_KERNELS_CPU_STATE_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_CPU_STATE_PRODUCTS_INL_H_
#undef KRAIT_KERNELS_CPU_STATE_PRODUCTS_INL_H_
#else
#define KRAIT_KERNELS_CPU_STATE_PRODUCTS_INL_H_
#endif

#include "kernels/cpu/state_head.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// S C_t for kTokens tokens and kVectors vectors of p: as many chains side by side, each over n, to
// hide the latency of the additions.
template <int kTokens, int kVectors>
HWY_INLINE void ProductLanes(const HeadShape& shape, const float* state, const float* const* c,
                             int64_t p, float* out) {
  F32 acc[kTokens][kVectors];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) acc[t][i] = SetF32(0.0f);
  }
  for (int64_t n = 0; n < shape.state_dim; ++n) {
    F32 row[kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) row[i] = Load(state + n * shape.head_dim + p + i * kLanes);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const F32 factor = SetF32(c[t][n]);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) acc[t][i] = Fma(row[i], factor, acc[t][i]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      Store(acc[t][i], out + t * shape.head_dim + p + i * kLanes);
    }
  }
}

// The same for `count` tokens: columns of the state that are read for one stay in the nearest cache
// for the others.
template <int kVectors>
HWY_INLINE void ProductColumns(const HeadShape& shape, const float* state, const float* const* c,
                               int64_t count, int64_t p, float* out) {
  int64_t t = 0;
  for (; t + 4 <= count; t += 4) {
    ProductLanes<4, kVectors>(shape, state, c + t, p, out + t * shape.head_dim);
  }
  for (; t + 2 <= count; t += 2) {
    ProductLanes<2, kVectors>(shape, state, c + t, p, out + t * shape.head_dim);
  }
  if (t < count) ProductLanes<1, kVectors>(shape, state, c + t, p, out + t * shape.head_dim);
}

// out [count, P]: S C_t, for c [count] of [N].
inline void StateProducts(const HeadShape& shape, const float* state, const float* const* c,
                          int64_t count, float* out) {
  int64_t p = 0;
  if (count == 1) {
    for (; p + 8 * kLanes <= shape.head_dim; p += 8 * kLanes) {
      ProductLanes<1, 8>(shape, state, c, p, out);
    }
  }
  for (; p + 2 * kLanes <= shape.head_dim; p += 2 * kLanes) {
    ProductColumns<2>(shape, state, c, count, p, out);
  }
  for (; p < shape.head_dim; p += kLanes) ProductColumns<1>(shape, state, c, count, p, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#endif
