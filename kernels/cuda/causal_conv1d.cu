// out[t, c] = silu(bias[c] + sum_j weight[j, c] x[t - taps + 1 + j, c]), one chain over j: the
// CPU's bits. A block has 32 channels of one sequence, a few tokens at a time; it reads what the
// ring holds of earlier tokens and only then writes the new ones into it.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/recurrent.cuh"

namespace krait::kernels {
namespace {

constexpr int kChannels = 32;  // of a block
constexpr int kTokens = 8;     // side by side

__global__ void Conv(RecurrentBatch batch, Rows x, ConvWeight weight, Ring ring, Rows out) {
  StartInOrder();
  const RecurrentSequence sequence(batch, blockIdx.y);
  const int64_t channel = int64_t{blockIdx.x} * kChannels + threadIdx.x;
  if (channel < weight.channels) {
    for (int i = threadIdx.y; i < sequence.num_tokens; i += kTokens) {
      ConvTaps taps;
      taps.Locate(sequence, x, ring, weight.num_taps, i);
      out[sequence.first_row + i][channel] =
          Convolve(weight, channel, channel, [&](int j) { return taps.row[j]; });
    }
  }
  __syncthreads();
  if (channel >= weight.channels) return;
  for (int i = ring.FirstKept(sequence) + threadIdx.y; i < sequence.num_tokens; i += kTokens) {
    ring.Row(sequence.slot, sequence.position(i))[channel] = x[sequence.first_row + i][channel];
  }
}

void CheckShapes(const CausalConv1dParams& params) {
  const int64_t channels = params.x.dim(1), taps = params.weight.dim(0);
  CHECK(taps >= 1 && taps <= kMaxConvTaps) << taps;
  CHECK_EQ(params.weight.dim(1), channels);
  CHECK_EQ(params.bias.dim(0), channels);
  CHECK_EQ(params.ring.dim(2), channels);
  CHECK_GE(params.ring.dim(1), taps - 1);
  CHECK(params.out.shape == params.x.shape) << params.out.shape.ToString();
}

}  // namespace

void RunCausalConv1d(const CudaContext& context, const CausalConv1dParams& params) {
  CheckShapes(params);
  const ConvWeight weight = {.taps = params.weight.ptr<float>(),
                             .bias = params.bias.ptr<float>(),
                             .channels = params.x.dim(1),
                             .num_taps = static_cast<int>(params.weight.dim(0))};
  if (params.batch.num_sequences == 0) return;
  const dim3 grid(static_cast<unsigned>((weight.channels + kChannels - 1) / kChannels),
                  static_cast<unsigned>(params.batch.num_sequences));
  Launch(context, "CausalConv1d", Conv, {grid, dim3(kChannels, kTokens)}, params.batch,
         Rows(params.x), weight, Ring(params.ring), Rows(params.out));
}

}  // namespace krait::kernels
