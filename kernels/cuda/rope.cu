// For i < d/2: (a, b) = (x[i], x[i + d/2]) becomes (a cos - b sin, b cos + a sin), the second
// product fused, as on the CPU: the same bits.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"

namespace krait::kernels {
namespace {

__global__ void Rotate(Rows x, const int32_t* positions, Rows cos, Rows sin, int64_t num_pairs,
                       int64_t half) {
  const int64_t pair = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  if (pair >= num_pairs) return;
  const int64_t i = pair % half, position = positions[t];
  float* head = x[t] + pair / half * 2 * half;
  const float a = head[i], b = head[half + i], c = cos[position][i], s = sin[position][i];
  head[i] = fmaf(a, c, 0.0f - b * s);
  head[half + i] = fmaf(b, c, a * s);
}

}  // namespace

void RunRope(const CudaContext& context, const RopeParams& params) {
  const int64_t num_rows = params.x.dim(0), heads = params.x.dim(1), head_dim = params.x.dim(2);
  const int64_t half = head_dim / 2;
  CHECK_EQ(head_dim, 2 * half);
  CHECK_EQ(params.cos.dim(1), half);
  CHECK(params.cos.shape == params.sin.shape);
  if (num_rows == 0) return;
  Rotate<<<RowGrid(heads * half, num_rows), kThreads, 0, context.stream>>>(
      Rows(params.x), params.positions, Rows(params.cos), Rows(params.sin), heads * half, half);
  KRAIT_CHECK_LAUNCH("Rope");
}

}  // namespace krait::kernels
