#pragma once

#include "kernels/core/tensor.h"

namespace krait {

// g = y silu(z); out = g / sqrt(mean(g^2) + eps) * weight, the mean over each `group_size`
// channels: Mamba2's norm, gate first (arXiv 2405.21060). Sums in the order of RmsNorm.
struct GatedRmsNormParams {
  TensorView y;       // [num_rows, n], f32, rows strided
  TensorView z;       // [num_rows, n], f32, rows strided
  TensorView weight;  // [n], f32
  int64_t group_size = 0;
  float eps = 1e-5f;
  TensorView out;  // [num_rows, n], f32 or linear_input, rows strided; may be y if f32
};

}  // namespace krait
