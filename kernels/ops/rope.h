#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace krait {

// Rotary position embedding, half-rotation form (arXiv 2104.09864; the layout of Hugging Face's
// Llama): for i < d/2, (x[i], x[i + d/2]) is rotated by positions[t] * theta^(-2i/d).
struct RopeParams {
  TensorView x;  // [num_rows, num_heads, head_dim], f32, in place, rows strided
  const int32_t* positions = nullptr;  // [num_rows]
  TensorView cos;                      // [max_positions, head_dim / 2], f32
  TensorView sin;                      // same
};

}  // namespace krait
