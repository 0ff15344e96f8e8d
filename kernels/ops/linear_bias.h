#pragma once

#include "kernels/core/tensor.h"

namespace krait {

// x[t, i] += bias[i]: after a product's whole sum, on every rank alike, so that the bits are the
// same at every tensor-parallel degree.
struct LinearBiasParams {
  TensorView x;     // [num_rows, n], f32, in place, rows may be strided
  TensorView bias;  // [n], f32
};

}  // namespace krait
