#pragma once

#include <cuda_bf16.h>

#include "common/logging.h"
#include "kernels/core/tensor.h"

namespace krait::kernels {

// Keys or values of one layer, for kernels that append: T is float or __nv_bfloat16.
template <typename T>
struct KvPages {
  T* data;
  int64_t page_stride, page_size, head_dim;

  explicit KvPages(const TensorView& cache)
      : data(cache.ptr<T>()),
        page_stride(cache.row_stride),
        page_size(cache.dim(2)),
        head_dim(cache.dim(3)) {}

  __device__ void Put(int64_t slot, int64_t head, int64_t d, float value) const {
    const int64_t page = slot / page_size, offset = slot % page_size;
    Store(value, data + page * page_stride + (head * page_size + offset) * head_dim + d);
  }

 private:
  __device__ static void Store(float value, float* to) { *to = value; }
  __device__ static void Store(float value, __nv_bfloat16* to) { *to = __float2bfloat16_rn(value); }
};

inline void CheckKvPages(const TensorView& k, const TensorView& v, const TensorView& k_cache,
                         const TensorView& v_cache) {
  CHECK(k.shape == v.shape) << k.shape.ToString();
  CHECK(k_cache.shape == v_cache.shape) << k_cache.shape.ToString();
  CHECK(k_cache.dtype == v_cache.dtype);
  CHECK_EQ(k.dim(1), k_cache.dim(1));
  CHECK_EQ(k.dim(2), k_cache.dim(3));
}

}  // namespace krait::kernels
