// Each token's K and V into its slot; a negative slot is skipped.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"

namespace krait::kernels {
namespace {

struct Pages {
  float* data;
  int64_t page_stride, page_size, head_dim;
};

__global__ void Append(Rows k, Rows v, const int64_t* slots, Pages keys, Pages values, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  const int64_t slot = slots[t];
  if (i >= n || slot < 0) return;
  const int64_t head = i / keys.head_dim, d = i % keys.head_dim;
  const int64_t page = slot / keys.page_size, offset = slot % keys.page_size;
  const int64_t at = (head * keys.page_size + offset) * keys.head_dim + d;
  keys.data[page * keys.page_stride + at] = k[t][i];
  values.data[page * values.page_stride + at] = v[t][i];
}

Pages PagesOf(const TensorView& cache) {
  return {cache.ptr<float>(), cache.row_stride, cache.dim(2), cache.dim(3)};
}

}  // namespace

void RunKvAppend(const CudaContext& context, const KvAppendParams& params) {
  CHECK(params.k.shape == params.v.shape) << params.k.shape.ToString();
  CHECK(params.k_cache.shape == params.v_cache.shape) << params.k_cache.shape.ToString();
  CHECK_EQ(params.k.dim(1), params.k_cache.dim(1));
  CHECK_EQ(params.k.dim(2), params.k_cache.dim(3));
  const int64_t num_tokens = params.k.dim(0), n = params.k.dim(1) * params.k.dim(2);
  if (num_tokens == 0) return;
  Append<<<RowGrid(n, num_tokens), kThreads, 0, context.stream>>>(
      Rows(params.k), Rows(params.v), params.slots, PagesOf(params.k_cache),
      PagesOf(params.v_cache), n);
  KRAIT_CHECK_LAUNCH("KvAppend");
}

}  // namespace krait::kernels
