// For i < d/2: (a, b) = (x[i], x[i + d/2]) becomes (a cos - b sin, b cos + a sin), the second
// product fused.

#include <cmath>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

void RotateHead(float* x, const float* cos, const float* sin, int64_t half) {
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const F32 a = Load(x + i), b = Load(x + half + i);
    const F32 c = Load(cos + i), s = Load(sin + i);
    Store(Fma(a, c, Sub(SetF32(0.0f), Mul(b, s))), x + i);
    Store(Fma(b, c, Mul(a, s)), x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = std::fma(a, cos[i], 0.0f - b * sin[i]);
    x[half + i] = std::fma(b, cos[i], a * sin[i]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunRope(const CpuContext& context, const RopeParams& params) {
  const int64_t heads = params.x.dim(1), head_dim = params.x.dim(2), half = head_dim / 2;
  CHECK_EQ(head_dim, 2 * half);
  CHECK_EQ(params.cos.dim(1), half);
  CHECK(params.cos.shape == params.sin.shape);
  const auto rotate = KRAIT_PICK(context.target, RotateHead);
  ForRows(context, params.x.dim(0), heads * head_dim, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t position = params.positions[t];
      CHECK(position >= 0 && position < params.cos.dim(0)) << position;
      for (int64_t head = 0; head < heads; ++head) {
        rotate(params.x.row<float>(t) + head * head_dim, params.cos.row<float>(position),
               params.sin.row<float>(position), half);
      }
    }
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
