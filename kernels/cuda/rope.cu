// For i < d/2: (a, b) = (x[i], x[i + d/2]) becomes (a cos - b sin, b cos + a sin).

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rotate.cuh"

namespace krait::kernels {
namespace {

__global__ void Rotate(Rows x, const int32_t* positions, Rows cos, Rows sin, int64_t num_pairs,
                       int64_t half) {
  StartInOrder();
  const int64_t pair = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  if (pair >= num_pairs) return;
  const int64_t i = pair % half, position = positions[t];
  float* head = x[t] + pair / half * 2 * half;
  const float2 rotated = RotatePair(head[i], head[half + i], cos[position][i], sin[position][i]);
  head[i] = rotated.x;
  head[half + i] = rotated.y;
}

}  // namespace

void RunRope(const CudaContext& context, const RopeParams& params) {
  const int64_t num_rows = params.x.dim(0), heads = params.x.dim(1), head_dim = params.x.dim(2);
  const int64_t half = head_dim / 2;
  CHECK_EQ(head_dim, 2 * half);
  CHECK_EQ(params.cos.dim(1), half);
  CHECK(params.cos.shape == params.sin.shape);
  if (num_rows == 0) return;
  Launch(context, "Rope", Rotate, {RowGrid(heads * half, num_rows), kThreads}, Rows(params.x),
         params.positions, Rows(params.cos), Rows(params.sin), heads * half, half);
}

}  // namespace krait::kernels
