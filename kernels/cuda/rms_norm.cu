// y[t, i] = x[t, i] * (1 / sqrt(mean(x[t]^2) + eps)) * weight[i]
//
// A block a row: thread j sums the squares of i = j mod 256 in increasing i, then a fixed tree.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"

namespace krait::kernels {
namespace {

__global__ void __launch_bounds__(kThreads)
    Norm(Rows x, const float* weight, int64_t n, float eps, ResultRows y) {
  __shared__ float scratch[kThreads / kWarpSize];
  const float* row = x[blockIdx.x];
  float squares = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) squares = fmaf(row[i], row[i], squares);
  const float mean = BlockSum(squares, scratch) / static_cast<float>(n);
  const float scale = 1.0f / sqrtf(mean + eps);
  for (int64_t i = threadIdx.x; i < n; i += kThreads)
    y.Store(blockIdx.x, i, row[i] * scale * weight[i]);
}

}  // namespace

void RunRmsNorm(const CudaContext& context, const RmsNormParams& params) {
  const int64_t num_rows = params.x.dim(0), n = params.x.dim(1);
  CHECK(params.x.shape == params.y.shape) << params.x.shape.ToString();
  CHECK_EQ(params.weight.dim(0), n);
  if (num_rows == 0) return;
  Norm<<<static_cast<unsigned>(num_rows), kThreads, 0, context.stream>>>(
      Rows(params.x), params.weight.ptr<float>(), n, params.eps, ResultRows(params.y));
  KRAIT_CHECK_LAUNCH("RmsNorm");
}

}  // namespace krait::kernels
