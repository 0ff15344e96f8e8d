// out = residual + ((b0 + b1) + b2) + ...

#include <vector>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"

namespace krait::kernels {
namespace {

__global__ void Sum(const float* const* blocks, int num_blocks, Rows residual, Rows out,
                    int64_t n) {
  StartInOrder();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  if (i >= n) return;
  float sum = blocks[0][t * n + i];
  for (int b = 1; b < num_blocks; ++b) sum += blocks[b][t * n + i];
  out[t][i] = residual.data == nullptr ? sum : residual[t][i] + sum;
}

}  // namespace

void RunSumBlocks(const CudaContext& context, const SumBlocksParams& params) {
  const int64_t num_rows = params.out.dim(0), n = params.out.dim(1);
  CHECK(!params.blocks.empty());
  if (params.residual) CHECK(params.residual->shape == params.out.shape);
  if (num_rows == 0) return;
  const auto num_blocks = static_cast<int>(params.blocks.size());
  auto** blocks = context.workspace->Get<const float*>(num_blocks);
  context.link->Upload(params.blocks.data(), blocks, num_blocks * sizeof(float*));
  Launch(context, "SumBlocks", Sum, {RowGrid(n, num_rows), kThreads}, blocks, num_blocks,
         params.residual ? Rows(*params.residual) : Rows(), Rows(params.out), n);
}

}  // namespace krait::kernels
