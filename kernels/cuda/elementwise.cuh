#pragma once

#include <cuda_bf16.h>

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

// A matrix that results go to: f32, or rounded to bf16.
struct ResultRows {
  void* data = nullptr;
  int64_t stride = 0;
  bool bf16 = false;

  explicit ResultRows(const TensorView& view)
      : data(view.data), stride(view.row_stride), bf16(view.dtype == DType::kBF16) {}
  __device__ void Store(int64_t row, int64_t i, float value) const {
    if (bf16) {
      static_cast<__nv_bfloat16*>(data)[row * stride + i] = __float2bfloat16_rn(value);
    } else {
      static_cast<float*>(data)[row * stride + i] = value;
    }
  }
  // Elements i to i + 3 of n, in one access if `aligned` (IsVectorAligned).
  __device__ void Store4(int64_t row, int64_t i, const float4& v, int64_t n, bool aligned) const {
    if (i >= n) return;
    if (!aligned) {
      const float each[4] = {v.x, v.y, v.z, v.w};
      for (int j = 0; j < 4 && i + j < n; ++j) Store(row, i + j, each[j]);
    } else if (bf16) {
      __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
      *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(data) + row * stride + i) =
          *reinterpret_cast<uint2*>(pairs);
    } else {
      *reinterpret_cast<float4*>(static_cast<float*>(data) + row * stride + i) = v;
    }
  }
};

// Whether all of a vector, or of a matrix's rows, can be taken four elements at a time.
inline bool IsVectorAligned(const TensorView& view) {
  const int rank = view.shape.rank();
  return view.dim(rank - 1) % 4 == 0 && (rank == 1 || view.row_stride % 4 == 0) &&
         reinterpret_cast<uintptr_t>(view.data) % (4 * ByteSize(view.dtype)) == 0;
}

// Blocks of 256 threads along a row's n elements, a row in y.
inline constexpr int kThreads = 256;
inline dim3 RowGrid(int64_t n, int64_t num_rows) {
  return dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads),
              static_cast<unsigned>(num_rows));
}

}  // namespace krait::kernels
