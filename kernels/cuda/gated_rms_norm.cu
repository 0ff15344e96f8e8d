// g = y silu(z); out = g * (1 / sqrt(mean(g^2) + eps)) * weight, group by group, in the CPU's order
// and so with its bits: eight threads a group of channels, thread l sums i = l mod 8.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"

namespace krait::kernels {
namespace {

constexpr int kLanes = 8;

__device__ float Gated(const float* y, const float* z, int64_t i) {
  return y[i] * fast_math::Silu(z[i]);
}

constexpr int kKept = 16;  // elements that a thread keeps; it computes others again

__global__ void GatedNorm(Rows y, Rows z, const float* weight, int64_t num_groups, int64_t size,
                          float eps, ResultRows out) {
  StartInOrder();
  const int64_t group = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kLanes;
  const int lane = threadIdx.x % kLanes;
  const bool mine = group < num_groups;  // the others must take part in the shuffles
  const int64_t first = mine ? group * size : 0;
  const float *y_row = y[blockIdx.y] + first, *z_row = z[blockIdx.y] + first;
  const int num_own = static_cast<int>(size / kLanes);
  float kept[kKept];
#pragma unroll
  for (int j = 0; j < kKept; ++j) {
    kept[j] = j < num_own ? Gated(y_row, z_row, lane + j * kLanes) : 0.0f;
  }
  const auto gated = [&](int j) { return Gated(y_row, z_row, lane + j * kLanes); };
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kKept; ++j) {
    if (j < num_own) sum = fmaf(kept[j], kept[j], sum);
  }
  for (int j = kKept; j < num_own; ++j) sum = fmaf(gated(j), gated(j), sum);
  sum = __shfl_sync(kAllLanes, SumOfEightLanes(sum), 0, kLanes);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(size) + eps);
  if (!mine) return;
  const auto store = [&](int j, float value) {
    const int64_t i = first + lane + j * kLanes;
    out.Store(blockIdx.y, i, value * scale * weight[i]);
  };
#pragma unroll
  for (int j = 0; j < kKept; ++j) {
    if (j < num_own) store(j, kept[j]);
  }
  for (int j = kKept; j < num_own; ++j) store(j, gated(j));
}

}  // namespace

void RunGatedRmsNorm(const CudaContext& context, const GatedRmsNormParams& params) {
  const int64_t num_rows = params.y.dim(0), n = params.y.dim(1), size = params.group_size;
  CHECK(size > 0 && size % kLanes == 0 && n % size == 0) << "group_size=" << size << " n=" << n;
  CHECK(params.z.shape == params.y.shape && params.out.shape == params.y.shape);
  CHECK_EQ(params.weight.dim(0), n);
  if (num_rows == 0) return;
  Launch(context, "GatedRmsNorm", GatedNorm, {RowGrid(n / size * kLanes, num_rows), kThreads},
         Rows(params.y), Rows(params.z), params.weight.ptr<float>(), n / size, size, params.eps,
         ResultRows(params.out));
}

}  // namespace krait::kernels
