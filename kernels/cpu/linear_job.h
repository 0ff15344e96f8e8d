#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/core/dtype.h"

namespace krait::kernels {

// One product as the tiles see it: pointers and strides in elements, unless they say bytes.
struct LinearJob {
  const std::byte* weights = nullptr;  // panels, packed_weight.h
  int64_t panel_bytes = 0;
  DType dtype = DType::kBF16;
  int64_t n = 0;
  int64_t k_blocks = 1;
  int64_t block_size = 0;  // k / k_blocks

  const float* x = nullptr;  // [num_rows, k]
  int64_t x_stride = 0;
  int64_t num_rows = 0;

  float* y = nullptr;  // [num_rows, n]; with partials [k_blocks, any, n], blocks block_stride apart
  int64_t y_stride = 0;
  int64_t block_stride = 0;         // 0: no partials
  const float* residual = nullptr;  // [num_rows, n] or null; may be y
  int64_t residual_stride = 0;

  bool partials() const { return block_stride != 0; }

  LinearJob Rows(int64_t begin, int64_t end) const {
    LinearJob job = *this;
    job.x += begin * x_stride;
    job.y += begin * y_stride;
    if (residual) job.residual += begin * residual_stride;
    job.num_rows = end - begin;
    return job;
  }
};

// Writes one block's sums of a row's outputs [column, column + width), those below n.
inline void StorePartial(const LinearJob& job, int64_t block, int64_t row, int64_t column,
                         int64_t width, const float* sums) {
  const int64_t count = std::min(width, job.n - column);
  std::copy_n(sums, count, job.y + block * job.block_stride + row * job.y_stride + column);
}

// The same for the sum over all blocks, residual added.
inline void StoreSum(const LinearJob& job, int64_t row, int64_t column, int64_t width,
                     const float* sums) {
  const int64_t count = std::min(width, job.n - column);
  float* y = job.y + row * job.y_stride + column;
  if (job.residual == nullptr) {
    std::copy_n(sums, count, y);
    return;
  }
  const float* residual = job.residual + row * job.residual_stride + column;
  for (int64_t j = 0; j < count; ++j) y[j] = residual[j] + sums[j];
}

}  // namespace krait::kernels
