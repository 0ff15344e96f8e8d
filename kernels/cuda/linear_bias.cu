// x[t, i] += bias[i]

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"

namespace krait::kernels {
namespace {

__global__ void AddBias(Rows x, const float* bias, int64_t n) {
  StartInOrder();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) x[blockIdx.y][i] += bias[i];
}

}  // namespace

void RunAddLinearBias(const CudaContext& context, const LinearBiasParams& params) {
  const int64_t n = params.x.dim(1);
  CHECK_EQ(params.bias.dim(0), n);
  if (params.x.dim(0) == 0) return;
  Launch(context, "AddLinearBias", AddBias, {RowGrid(n, params.x.dim(0)), kThreads}, Rows(params.x),
         params.bias.ptr<float>(), n);
}

}  // namespace krait::kernels
