#pragma once

#include "kernels/core/tensor.h"
#include "kernels/ops/recurrent_batch.h"

namespace krait {

// Depthwise causal convolution along a sequence, bias and SiLU (arXiv 2312.00752, figure 3):
//   out[t, c] = silu(bias[c] + sum_j weight[j, c] x[t - taps + 1 + j, c])
// one chain of fused multiply-adds over j from the oldest input on; inputs before position 0 are 0.
// Along a tree, t - 1 is the parent. Earlier inputs come from the ring, new ones go into it.
struct CausalConv1dParams {
  RecurrentBatch batch;
  TensorView x;       // [num_tokens, channels], f32, rows strided
  TensorView weight;  // [taps, channels], f32
  TensorView bias;    // [channels], f32
  TensorView ring;    // [num_slots, R, channels], f32; R >= K + taps - 1, K the most drafts
  TensorView out;     // [num_tokens, channels], f32, rows strided; not x
  StateTraffic* traffic = nullptr;  // added to, if set
};

inline constexpr int kMaxConvTaps = 8;

}  // namespace krait
