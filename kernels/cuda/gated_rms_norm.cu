// g = y silu(z); out = g * (1 / sqrt(mean(g^2) + eps)) * weight, group by group, in the CPU's order
// and so with its bits: eight threads a group of channels, thread l sums i = l mod 8.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"

namespace krait::kernels {
namespace {

constexpr int kLanes = 8;

__device__ float Gated(const float* y, const float* z, int64_t i) {
  return y[i] * fast_math::Silu(z[i]);
}

__global__ void GatedNorm(Rows y, Rows z, const float* weight, int64_t num_groups, int64_t size,
                          float eps, ResultRows out) {
  const int64_t group = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
  const int lane = threadIdx.x % kLanes;
  const bool mine = group < num_groups;  // the others must take part in the shuffles
  const int64_t first = mine ? group * size : 0;
  const float *y_row = y[blockIdx.y] + first, *z_row = z[blockIdx.y] + first;
  float sum = 0;
  for (int64_t i = lane; i < size; i += kLanes) {
    const float gated = Gated(y_row, z_row, i);
    sum = fmaf(gated, gated, sum);
  }
  sum = __shfl_sync(kAllLanes, SumOfEightLanes(sum), 0, kLanes);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(size) + eps);
  if (!mine) return;
  for (int64_t i = lane; i < size; i += kLanes) {
    out.Store(blockIdx.y, first + i, Gated(y_row, z_row, i) * scale * weight[first + i]);
  }
}

}  // namespace

void RunGatedRmsNorm(const CudaContext& context, const GatedRmsNormParams& params) {
  const int64_t num_rows = params.y.dim(0), n = params.y.dim(1), size = params.group_size;
  CHECK(size > 0 && size % kLanes == 0 && n % size == 0) << "group_size=" << size << " n=" << n;
  CHECK(params.z.shape == params.y.shape && params.out.shape == params.y.shape);
  CHECK_EQ(params.weight.dim(0), n);
  if (num_rows == 0) return;
  GatedNorm<<<RowGrid(n / size * kLanes, num_rows), kThreads, 0, context.stream>>>(
      Rows(params.y), Rows(params.z), params.weight.ptr<float>(), n / size, size, params.eps,
      ResultRows(params.out));
  KRAIT_CHECK_LAUNCH("GatedRmsNorm");
}

}  // namespace krait::kernels
