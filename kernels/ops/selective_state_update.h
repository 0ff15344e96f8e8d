#pragma once

// The recurrence of Mamba2 (arXiv 2405.21060, section 6) for a batch of sequences: for each head h,
// with x and B of its group,
//   S_t = e^(a dt_t) S_(t-1) + dt_t x_t B_t^T        y_t = S_t C_t + d x_t
// Nothing but a checkpoint at an absolute multiple of W tokens is stored, and a ring of inputs.
// With b = W floor(t / W), S the state after the first b tokens, l_t = a dt_t and L(u, t) the sum
// of l over u + 1 .. t in that order:
//   acc = e^(l_b + .. + l_t) (S C_t)
//   acc = fma((e^L(u, t) dt_u) (B_u . C_t), x_u, acc)     for u = b .. t in order
//   y_t = fma(d, x_t, acc)
// so y_t depends on the checkpoint and the inputs since, never on the number of new tokens, drafts,
// chunks or neighbours. A fold takes exactly W inputs:
//   S' = e^(l_b + .. + l_(b+W-1)) S;   S' = fma((e^L(u, b+W-1) dt_u) B_u, x_u, S')    in order
// and is written once the boundary is final; drafts beyond a boundary fold in scratch memory.
// S C_t is one chain over the state's dimension; B . C is summed in eight lanes and a tree.

#include "kernels/core/tensor.h"
#include "kernels/ops/recurrent_batch.h"

namespace krait {

struct SelectiveStateUpdateParams {
  RecurrentBatch batch;
  TensorView xbc;          // [num_tokens, G P + G N + H N], f32: x | B | C after the convolution
  TensorView dt;           // [num_tokens, H], f32, as projected: before bias and softplus
  TensorView dt_bias;      // [H], f32
  TensorView a;            // [H], f32, negative
  TensorView d;            // [H], f32
  TensorView state;        // [num_slots, H, N, P], f32; P and N multiples of 8
  TensorView ring;         // [num_slots, R, G P + G N + H], f32: x | B | dt after softplus
  int fold_interval = 32;  // W; R >= W - 1 + K with K the largest number of drafts
  TensorView y;            // [num_tokens, H P], f32, rows strided
  StateTraffic* traffic = nullptr;  // added to, if set
};

inline constexpr int kMaxFoldInterval = 64;

}  // namespace krait
