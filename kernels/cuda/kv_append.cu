// Each token's K and V into its slot; a negative slot is skipped.

#include <cuda_bf16.h>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/kv_pages.cuh"
#include "kernels/cuda/launch.cuh"

namespace krait::kernels {
namespace {

template <typename T>
__global__ void Append(Rows k, Rows v, const int64_t* slots, KvPages<T> keys, KvPages<T> values,
                       int64_t n) {
  StartInOrder();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, t = blockIdx.y;
  const int64_t slot = slots[t];
  if (i >= n || slot < 0) return;
  const int64_t head = i / keys.head_dim, d = i % keys.head_dim;
  keys.Put(slot, head, d, k[t][i]);
  values.Put(slot, head, d, v[t][i]);
}

template <typename T>
void LaunchFor(const CudaContext& context, const KvAppendParams& params) {
  const int64_t num_tokens = params.k.dim(0), n = params.k.dim(1) * params.k.dim(2);
  Launch(context, "KvAppend", Append<T>, {RowGrid(n, num_tokens), kThreads}, Rows(params.k),
         Rows(params.v), params.slots, KvPages<T>(params.k_cache), KvPages<T>(params.v_cache), n);
}

}  // namespace

void RunKvAppend(const CudaContext& context, const KvAppendParams& params) {
  CheckKvPages(params.k, params.v, params.k_cache, params.v_cache);
  if (params.k.dim(0) == 0) return;
  if (params.k_cache.dtype == DType::kBF16) {
    LaunchFor<__nv_bfloat16>(context, params);
  } else {
    LaunchFor<float>(context, params);
  }
}

}  // namespace krait::kernels
