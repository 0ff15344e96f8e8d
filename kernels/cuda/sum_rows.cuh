#pragma once

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops/sum_blocks.h"
#include "kernels/ops/sum_peers.h"

namespace krait::kernels {

// Blocks whose places the host knows: in the kernel's own parameters, so that a recorded launch
// reads nothing that the host may have changed since.
struct GivenBlocks {
  static constexpr int kMax = PeerBoard::kMaxRanks;
  const float* at[kMax];
  __device__ const float* operator[](int b) const { return at[b]; }
};

// Blocks whose places a kernel before has found.
struct ListedBlocks {
  const float* const* at;
  __device__ const float* operator[](int b) const { return at[b]; }
};

// out = residual + ((b0 + b1) + b2) + ...; each block [rows, n] dense.
template <typename Blocks>
__global__ void SumRows(const __grid_constant__ Blocks blocks, int num_blocks, Rows residual,
                        Rows out, int64_t n) {
  StartInOrder();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  if (i >= n) return;
  float sum = blocks[0][t * n + i];
  for (int b = 1; b < num_blocks; ++b) sum += blocks[b][t * n + i];
  out[t][i] = residual.data == nullptr ? sum : residual[t][i] + sum;
}

// In the ordinary way: what comes before may be NCCL's, which is no kernel of ours.
template <typename Blocks>
void LaunchSumRows(const CudaContext& context, const Blocks& blocks, int num_blocks,
                   const TensorView* residual, const TensorView& out) {
  const int64_t num_rows = out.dim(0), n = out.dim(1);
  SumRows<<<RowGrid(n, num_rows), kThreads, 0, context.stream>>>(
      blocks, num_blocks, residual ? Rows(*residual) : Rows(), Rows(out), n);
  KRAIT_CHECK_LAUNCH("SumRows");
}

}  // namespace krait::kernels
