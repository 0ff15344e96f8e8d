#pragma once

#include "kernels/core/tensor.h"

namespace krait {

// y[t, i] = x[t, i] / sqrt(mean_i(x[t, i]^2) + eps) * weight[i]   (arXiv 1910.07467)
// The sum of squares has one fixed order for every width of vector and number of rows.
struct RmsNormParams {
  TensorView x;       // [num_rows, n], f32
  TensorView weight;  // [n], f32
  float eps = 1e-5f;
  TensorView y;  // [num_rows, n], f32 or linear_input; may be x if f32
};

}  // namespace krait
