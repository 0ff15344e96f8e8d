// y[t, i] = x[t, i] * (1 / sqrt(mean(x[t]^2) + eps)) * weight[i]
//
// A block a row, read once: thread j takes four elements at 4 j, 4 (j + 512), .., and sums their
// squares in that order, then a fixed tree. The weight is read while the kernel before still runs.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"

namespace krait::kernels {
namespace {

constexpr int kNormThreads = 512;
constexpr int kKept = 4;  // vectors of a row that a thread keeps; it reads others again

struct NormJob {
  Rows x;
  const float* weight;
  int64_t n;
  float eps;
  ResultRows y;
  bool aligned;  // x, y and weight can be read and written four at a time
};

struct RowVectors {
  const float* row;
  int64_t n;
  bool aligned;

  // Four elements from `i` on; zeros beyond the end.
  __device__ float4 operator[](int64_t i) const {
    if (aligned && i < n) return *reinterpret_cast<const float4*>(row + i);
    return {At(i), At(i + 1), At(i + 2), At(i + 3)};
  }

 private:
  __device__ float At(int64_t i) const { return i < n ? row[i] : 0.0f; }
};

__device__ float AddSquares(const float4& v, float sum) {
  return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
}

__device__ int64_t IndexOf(int vector) {
  return (int64_t{vector} * kNormThreads + threadIdx.x) * 4;
}

__device__ void StoreScaled(const NormJob& job, int64_t i, const float4& v, float scale,
                            const float4& w) {
  const float4 scaled = {v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z,
                         v.w * scale * w.w};
  job.y.Store4(blockIdx.x, i, scaled, job.n, job.aligned);
}

__global__ void __launch_bounds__(kNormThreads) Norm(NormJob job) {
  __shared__ float scratch[kNormThreads / kWarpSize];
  const RowVectors x = {job.x[blockIdx.x], job.n, job.aligned};
  const RowVectors weights = {job.weight, job.n, job.aligned};
  const int num_vectors = static_cast<int>((job.n + 4 * kNormThreads - 1) / (4 * kNormThreads));
  float4 kept[kKept], weight[kKept];
  LetNextStart();
#pragma unroll
  for (int v = 0; v < kKept; ++v) weight[v] = weights[IndexOf(v)];
  AwaitPrevious();
#pragma unroll
  for (int v = 0; v < kKept; ++v) kept[v] = x[IndexOf(v)];
  float squares = 0;
#pragma unroll
  for (int v = 0; v < kKept; ++v) squares = AddSquares(kept[v], squares);
  for (int v = kKept; v < num_vectors; ++v) squares = AddSquares(x[IndexOf(v)], squares);
  const float mean = BlockSum(squares, scratch) / static_cast<float>(job.n);
  const float scale = 1.0f / sqrtf(mean + job.eps);
#pragma unroll
  for (int v = 0; v < kKept; ++v) StoreScaled(job, IndexOf(v), kept[v], scale, weight[v]);
  for (int v = kKept; v < num_vectors; ++v) {
    StoreScaled(job, IndexOf(v), x[IndexOf(v)], scale, weights[IndexOf(v)]);
  }
}

}  // namespace

void RunRmsNorm(const CudaContext& context, const RmsNormParams& params) {
  const int64_t num_rows = params.x.dim(0), n = params.x.dim(1);
  CHECK(params.x.shape == params.y.shape) << params.x.shape.ToString();
  CHECK_EQ(params.weight.dim(0), n);
  if (num_rows == 0) return;
  const bool aligned =
      IsVectorAligned(params.x) && IsVectorAligned(params.y) && IsVectorAligned(params.weight);
  Launch(context, "RmsNorm", Norm, {static_cast<unsigned>(num_rows), kNormThreads},
         NormJob{Rows(params.x), params.weight.ptr<float>(), n, params.eps, ResultRows(params.y),
                 aligned});
}

}  // namespace krait::kernels
