// out[t, :] = table[id of t - first_id, :], -0 where that row is not here.

#include <cuda_bf16.h>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"

namespace krait::kernels {
namespace {

__device__ float ToFloat(float value) { return value; }
__device__ float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

struct Ids {
  const int32_t* known;
  const int32_t* sources;  // null: all are known
  const int32_t* drawn;

  __device__ int32_t operator[](int64_t t) const {
    const int32_t source = sources == nullptr ? -1 : sources[t];
    return source < 0 ? known[t] : drawn[source];
  }
};

template <typename T>
__global__ void Lookup(const T* table, int64_t table_stride, int64_t num_table_rows, Ids ids,
                       int32_t first_id, Rows out, int64_t hidden) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  if (i >= hidden) return;
  const int64_t row = int64_t{ids[t]} - first_id;
  out[t][i] = row >= 0 && row < num_table_rows ? ToFloat(table[row * table_stride + i]) : -0.0f;
}

template <typename T>
void Launch(const CudaContext& context, const EmbeddingParams& params) {
  const int64_t hidden = params.table.dim(1);
  Lookup<<<RowGrid(hidden, params.out.dim(0)), kThreads, 0, context.stream>>>(
      params.table.ptr<T>(), params.table.row_stride, params.table.dim(0),
      Ids{params.ids, params.sources, params.drawn}, params.first_id, Rows(params.out), hidden);
  KRAIT_CHECK_LAUNCH("Embedding");
}

}  // namespace

void RunEmbedding(const CudaContext& context, const EmbeddingParams& params) {
  CHECK(params.table.dtype == DType::kF32 || params.table.dtype == DType::kBF16);
  CHECK(params.out.dtype == DType::kF32);
  CHECK_EQ(params.out.dim(1), params.table.dim(1));
  if (params.out.dim(0) == 0) return;
  if (params.table.dtype == DType::kF32) {
    Launch<float>(context, params);
  } else {
    Launch<__nv_bfloat16>(context, params);
  }
}

}  // namespace krait::kernels
