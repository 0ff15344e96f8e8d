#pragma once

#include "kernels/core/tensor.h"

namespace krait {

// y = silu(gate) * up, silu(v) = v / (1 + exp(-v))   (SwiGLU, arXiv 2002.05202)
struct SiluMulParams {
  TensorView gate_up;  // [num_rows, 2 n], f32: gate then up
  TensorView y;        // [num_rows, n], f32 or linear_input
};

}  // namespace krait
