// x[t, i] += bias[i]

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_bias.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

void LinearBiasRow(const float* bias, int64_t n, float* x) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(Add(Load(x + i), Load(bias + i)), x + i);
  for (; i < n; ++i) x[i] += bias[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunAddLinearBias(const CpuContext& context, const LinearBiasParams& params) {
  const int64_t n = params.x.dim(1);
  CHECK_EQ(params.bias.dim(0), n);
  const auto row_function = KRAIT_PICK(context.target, LinearBiasRow);
  ForRows(context, params.x.dim(0), n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      row_function(params.bias.ptr<float>(), n, params.x.row<float>(t));
    }
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
