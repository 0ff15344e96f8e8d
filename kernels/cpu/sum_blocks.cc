// out = residual + ((b0 + b1) + b2) + ...

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sum_blocks.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// One row; `offset` of its first element in each block. `residual` may be null or `out`.
void SumBlocksRow(absl::Span<const float* const> blocks, int64_t offset, int64_t n,
                  const float* residual, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    F32 sum = Load(blocks[0] + offset + i);
    for (size_t b = 1; b < blocks.size(); ++b) sum = Add(sum, Load(blocks[b] + offset + i));
    Store(residual ? Add(Load(residual + i), sum) : sum, out + i);
  }
  for (; i < n; ++i) {
    float sum = blocks[0][offset + i];
    for (size_t b = 1; b < blocks.size(); ++b) sum += blocks[b][offset + i];
    out[i] = residual ? residual[i] + sum : sum;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunSumBlocks(const CpuContext& context, const SumBlocksParams& params) {
  const int64_t num_rows = params.out.dim(0), n = params.out.dim(1);
  CHECK(!params.blocks.empty());
  if (params.residual) CHECK(params.residual->shape == params.out.shape);
  const auto row_function = KRAIT_PICK(context.target, SumBlocksRow);
  const int64_t row_elements = n * static_cast<int64_t>(params.blocks.size());
  ForRows(context, num_rows, row_elements, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      row_function(params.blocks, t * n, n,
                   params.residual ? params.residual->row<float>(t) : nullptr,
                   params.out.row<float>(t));
    }
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
