// y = gate / (1 + e^-gate) * up, with common/fast_math's exponential: the CPU's bits.

#include "common/fast_math.h"
#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"

namespace krait::kernels {
namespace {

__global__ void GateUp(Rows gate_up, ResultRows y, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  if (i < n) y.Store(t, i, fast_math::Silu(gate_up[t][i]) * gate_up[t][n + i]);
}

}  // namespace

void RunSiluMul(const CudaContext& context, const SiluMulParams& params) {
  const int64_t num_rows = params.y.dim(0), n = params.y.dim(1);
  CHECK_EQ(params.gate_up.dim(1), 2 * n);
  CHECK_EQ(params.gate_up.dim(0), num_rows);
  if (num_rows == 0) return;
  GateUp<<<RowGrid(n, num_rows), kThreads, 0, context.stream>>>(Rows(params.gate_up),
                                                                ResultRows(params.y), n);
  KRAIT_CHECK_LAUNCH("SiluMul");
}

}  // namespace krait::kernels
