#pragma once

#include "absl/types/span.h"
#include "kernels/core/tensor.h"

namespace krait {

// out = residual + ((b0 + b1) + b2) + ...: partial sums of a product whose k is spread over ranks,
// in block order, then the residual; the same bits as LinearParams without `partials`.
struct SumBlocksParams {
  absl::Span<const float* const> blocks;  // each [num_rows, n] dense
  const TensorView* residual = nullptr;   // [num_rows, n], f32; may be `out` itself
  TensorView out;                         // [num_rows, n], f32
};

}  // namespace krait
