// y = gate / (1 + e^-gate) * up, with common/fast_math's exponential: the CPU's bits. A thread four
// elements.

#include "common/fast_math.h"
#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"

namespace krait::kernels {
namespace {

__device__ float GateUp(float gate, float up) { return fast_math::Silu(gate) * up; }

__global__ void GateUpRows(Rows gate_up, ResultRows y, int64_t n, bool aligned) {
  StartInOrder();
  const int64_t i = 4 * (int64_t{blockIdx.x} * kThreads + threadIdx.x), t = blockIdx.y;
  if (i >= n) return;
  const float *gates = gate_up[t] + i, *ups = gates + n;
  if (!aligned) {
    for (int64_t j = 0; j < min(n - i, int64_t{4}); ++j) {
      y.Store(t, i + j, GateUp(gates[j], ups[j]));
    }
    return;
  }
  const float4 gate = *reinterpret_cast<const float4*>(gates);
  const float4 up = *reinterpret_cast<const float4*>(ups);
  y.Store4(t, i,
           {GateUp(gate.x, up.x), GateUp(gate.y, up.y), GateUp(gate.z, up.z), GateUp(gate.w, up.w)},
           n, true);
}

}  // namespace

void RunSiluMul(const CudaContext& context, const SiluMulParams& params) {
  const int64_t num_rows = params.y.dim(0), n = params.y.dim(1);
  CHECK_EQ(params.gate_up.dim(1), 2 * n);
  CHECK_EQ(params.gate_up.dim(0), num_rows);
  if (num_rows == 0) return;
  const bool aligned = IsVectorAligned(params.gate_up) && IsVectorAligned(params.y);
  Launch(context, "SiluMul", GateUpRows, {RowGrid((n + 3) / 4, num_rows), kThreads},
         Rows(params.gate_up), ResultRows(params.y), n, aligned);
}

}  // namespace krait::kernels
