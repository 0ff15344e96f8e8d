// y[t, i] = x[t, i] * (1 / sqrt(mean(x[t]^2) + eps)) * weight[i]
//
// Lane l of eight sums the squares of i = l mod 8 in increasing i; a row's last n mod 8 elements
// are filled up with zeros.

#include <cmath>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

float SumOfSquares(const float* x, int64_t n) {
  F32 sum = SetF32(0.0f);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = Fma(Load(x + i), Load(x + i), sum);
  if (i < n) {
    float tail[kLanes] = {};
    std::memcpy(tail, x + i, (n - i) * sizeof(float));
    sum = Fma(Load(tail), Load(tail), sum);
  }
  return SumLanes(sum);
}

void RmsNormRow(const float* x, const float* weight, int64_t n, float eps, float* y) {
  const float mean = SumOfSquares(x, n) / static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(mean + eps);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    Store(Mul(Mul(Load(x + i), SetF32(scale)), Load(weight + i)), y + i);
  }
  for (; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunRmsNorm(const CpuContext& context, const RmsNormParams& params) {
  const int64_t n = params.x.dim(1);
  CHECK(params.x.shape == params.y.shape) << params.x.shape.ToString();
  CHECK_EQ(params.weight.dim(0), n);
  const auto row_function = KRAIT_PICK(context.target, RmsNormRow);
  ForRows(context, params.x.dim(0), n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      row_function(params.x.row<float>(t), params.weight.ptr<float>(), n, params.eps,
                   params.y.row<float>(t));
    }
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
