#pragma once

// Mamba1's mixer between its projections (arXiv 2312.00752, grouped as in arXiv 2408.15237):
// convolution of x, and for channel c of group g, with B of its shared group,
//   delta = softplus(dt + dt_bias)
//   h[n] = fma(delta x, B[n], e^(delta a[n]) h[n])       n in order
//   y = fma(d, x, sum_n h[n] C[n]) silu(z)               one chain over n
// Always token by token: e^(delta a) depends on channel and state, so there is no matrix form. The
// stored state is after the last final token; drafts' inputs lie in the ring as they were
// projected, and those that were accepted are run again, convolution and softplus included.

#include "kernels/core/tensor.h"
#include "kernels/ops/recurrent_batch.h"

namespace krait {

struct SelectiveScanParams {
  RecurrentBatch batch;
  // x [num_tokens, X], B [num_tokens, X], C, dt and z [num_tokens, D], f32, rows strided. Channels
  // come in groups of N (the state's dimension): D = repeat * X, and group g of x and B serves
  // groups repeat g .. repeat g + repeat - 1 of the others.
  TensorView x, b, c, dt, z;
  TensorView conv_weight;  // [taps, D], f32: of x after it was repeated
  TensorView conv_bias;    // [D], f32
  TensorView dt_bias;      // [D], f32
  TensorView a;            // [D / N, N, N], f32, negative: group, state, channel
  TensorView d;            // [D], f32
  TensorView state;        // [num_slots, D / N, N, N], f32: group, state, channel; N multiple of 8
  // With K the largest number of drafts: ring [num_slots, R, X + D], f32, B | dt, R >= max(1, K);
  // conv_ring [num_slots, R', X], f32, R' >= K + taps - 1.
  TensorView ring;
  TensorView conv_ring;
  TensorView y;                     // [num_tokens, D], f32 or linear_input, rows strided
  StateTraffic* traffic = nullptr;  // added to, if set
};

}  // namespace krait
