// y = gate / (1 + e^-gate) * up

#include <algorithm>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/silu_mul.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

HWY_INLINE F32 SiluMulLanes(F32 gate, F32 up) { return Mul(Silu(gate), up); }

void SiluMulRow(const float* gate, const float* up, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(SiluMulLanes(Load(gate + i), Load(up + i)), y + i);
  if (i < n) {
    float tail[3][kLanes] = {};
    std::copy(gate + i, gate + n, tail[0]);
    std::copy(up + i, up + n, tail[1]);
    Store(SiluMulLanes(Load(tail[0]), Load(tail[1])), tail[2]);
    std::copy(tail[2], tail[2] + (n - i), y + i);
  }
}

void ExpLanes(float* values) { Store(Exp(Load(values)), values); }

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunSiluMul(const CpuContext& context, const SiluMulParams& params) {
  const int64_t n = params.y.dim(1);
  CHECK_EQ(params.gate_up.dim(1), 2 * n);
  CHECK_EQ(params.gate_up.dim(0), params.y.dim(0));
  const auto row_function = KRAIT_PICK(context.target, SiluMulRow);
  ForRows(context, params.y.dim(0), 4 * n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* gate = params.gate_up.row<float>(t);
      row_function(gate, gate + n, n, params.y.row<float>(t));
    }
  });
}

void FillExp(Target target, absl::Span<float> values) {
  const auto exp = KRAIT_PICK(target, ExpLanes);
  for (size_t i = 0; i < values.size(); i += 8) {
    float lanes[8] = {};
    const size_t count = std::min<size_t>(8, values.size() - i);
    std::copy_n(values.data() + i, count, lanes);
    exp(lanes);
    std::copy_n(lanes, count, values.data() + i);
  }
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
