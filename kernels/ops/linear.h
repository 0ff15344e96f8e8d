#pragma once

// y = x W^T with W [n, k].
//
// The order of the sum over k is part of the contract. k is cut into `k_blocks` equal blocks;
// inside a block each output is ONE chain of fused multiply-adds in increasing k, starting from +0;
// the blocks' sums are added in block order (the first block's sum is the start, not 0 + it). It
// depends neither on the number of rows nor on threads, vector width or the tensor-parallel degree.
// So a row's bits are the same alone, in a batch, in a prefill chunk and in a verification.

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "kernels/core/dtype.h"
#include "kernels/core/tensor.h"

namespace krait {

// What PrepareLinear packs: this rank's n rows and k columns.
struct LinearSource {
  int64_t n = 0;
  int64_t k = 0;
  int64_t k_blocks = 1;        // divides k
  DType dtype = DType::kBF16;  // kF32 or kBF16: how the backend keeps it
  // Writes rows [begin, end) as f32, dense [end - begin, k], to `out` (host memory).
  std::function<absl::Status(int64_t begin, int64_t end, float* out)> read_rows;
};

// A prepared weight; its layout belongs to the backend that made it. Immutable.
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  virtual int64_t n() const = 0;
  virtual int64_t k() const = 0;
  virtual int64_t k_blocks() const = 0;
  virtual int64_t num_bytes() const = 0;  // read by one product with any number of rows
};

struct LinearParams {
  TensorView x;  // [num_rows, k], f32 or Backend::linear_input, rows may be strided
  const LinearWeight* weight = nullptr;
  // [num_rows, n], f32, rows may be strided: the sum over all blocks; or, with `partials`,
  // [k_blocks, num_rows, n] dense: each block's sum, to be added over ranks in block order.
  TensorView y;
  bool partials = false;
  // If set, [num_rows, n], f32: y = residual + sum. May be y itself. Not with `partials`.
  const TensorView* residual = nullptr;
};

}  // namespace krait
