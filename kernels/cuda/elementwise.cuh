#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace krait::kernels {

// A matrix as a kernel sees it.
struct Rows {
  float* data = nullptr;
  int64_t stride = 0;

  Rows() = default;
  explicit Rows(const TensorView& view) : data(view.ptr<float>()), stride(view.row_stride) {}
  __device__ float* operator[](int64_t row) const { return data + row * stride; }
};

// Blocks of 256 threads along a row's n elements, a row in y.
inline constexpr int kThreads = 256;
inline dim3 RowGrid(int64_t n, int64_t num_rows) {
  return dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads),
              static_cast<unsigned>(num_rows));
}

}  // namespace krait::kernels
