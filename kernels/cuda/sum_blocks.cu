// out = residual + ((b0 + b1) + b2) + ...

#include <algorithm>

#include "common/logging.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/sum_rows.cuh"

namespace krait::kernels {

void RunSumBlocks(const CudaContext& context, const SumBlocksParams& params) {
  CHECK(!params.blocks.empty());
  CHECK_LE(params.blocks.size(), size_t{GivenBlocks::kMax});
  if (params.residual) CHECK(params.residual->shape == params.out.shape);
  if (params.out.dim(0) == 0) return;
  GivenBlocks blocks = {};
  std::copy(params.blocks.begin(), params.blocks.end(), blocks.at);
  LaunchSumRows(context, blocks, static_cast<int>(params.blocks.size()), params.residual,
                params.out);
}

}  // namespace krait::kernels
