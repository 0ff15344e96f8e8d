// g = y silu(z); out = g * (1 / sqrt(mean(g^2) + eps)) * weight, group by group; the sum of squares
// as in rms_norm.cc.

#include <cmath>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gated_rms_norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

void GatedNormGroup(const float* y, const float* z, const float* weight, int64_t n, float eps,
                    float* out) {
  F32 sum = SetF32(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32 gated = Mul(Load(y + i), Silu(Load(z + i)));
    Store(gated, out + i);
    sum = Fma(gated, gated, sum);
  }
  const float scale = 1.0f / std::sqrt(SumLanes(sum) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; i += kLanes) {
    Store(Mul(Mul(Load(out + i), SetF32(scale)), Load(weight + i)), out + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunGatedRmsNorm(const CpuContext& context, const GatedRmsNormParams& params) {
  const int64_t n = params.y.dim(1), size = params.group_size;
  CHECK(size > 0 && size % 8 == 0 && n % size == 0) << "group_size=" << size << " n=" << n;
  CHECK(params.z.shape == params.y.shape && params.out.shape == params.y.shape);
  CHECK_EQ(params.weight.dim(0), n);
  const auto group_function = KRAIT_PICK(context.target, GatedNormGroup);
  const float* weight = params.weight.ptr<float>();
  ForRows(context, params.y.dim(0), 4 * n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t first = 0; first < n; first += size) {
        group_function(params.y.row<float>(t) + first, params.z.row<float>(t) + first,
                       weight + first, size, params.eps, params.out.row<float>(t) + first);
      }
    }
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
