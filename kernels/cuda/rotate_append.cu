// Rope of queries in place, and keys and values into the cache, the keys rotated: what Rope and
// KvAppend would leave, in one kernel. A thread has a pair of elements of a head.

#include <cuda_bf16.h>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/kv_pages.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rotate.cuh"

namespace krait::kernels {
namespace {

template <typename T>
struct RotateAppendJob {
  Rows q, k, v;
  const int32_t* positions;
  Rows cos, sin;
  const int64_t* slots;
  KvPages<T> keys, values;
  int heads, kv_heads, half;  // half: pairs of a head

  __device__ void RotateQuery(int64_t t, int head, int i, float c, float s) const {
    float* x = q[t] + head * 2 * half;
    const float2 rotated = RotatePair(x[i], x[half + i], c, s);
    x[i] = rotated.x;
    x[half + i] = rotated.y;
  }
  __device__ void AppendKey(int64_t t, int head, int i, float c, float s, int64_t slot) const {
    const float* x = k[t] + head * 2 * half;
    const float2 rotated = RotatePair(x[i], x[half + i], c, s);
    keys.Put(slot, head, i, rotated.x);
    keys.Put(slot, head, half + i, rotated.y);
  }
  __device__ void AppendValue(int64_t t, int head, int i, int64_t slot) const {
    const float* x = v[t] + head * 2 * half;
    values.Put(slot, head, i, x[i]);
    values.Put(slot, head, half + i, x[half + i]);
  }
};

template <typename T>
__global__ void RotateAppend(RotateAppendJob<T> job) {
  StartInOrder();
  const int64_t t = blockIdx.y;
  const int pair = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const int head = pair / job.half, i = pair % job.half;
  if (head >= job.heads + 2 * job.kv_heads) return;
  const int64_t position = job.positions[t], slot = job.slots[t];
  const float c = job.cos[position][i], s = job.sin[position][i];
  if (head < job.heads) {
    job.RotateQuery(t, head, i, c, s);
  } else if (slot < 0) {
    return;
  } else if (head < job.heads + job.kv_heads) {
    job.AppendKey(t, head - job.heads, i, c, s, slot);
  } else {
    job.AppendValue(t, head - job.heads - job.kv_heads, i, slot);
  }
}

template <typename T>
void LaunchFor(const CudaContext& context, const RotateAppendParams& params) {
  const RotateAppendJob<T> job = {Rows(params.q),
                                  Rows(params.k),
                                  Rows(params.v),
                                  params.positions,
                                  Rows(params.cos),
                                  Rows(params.sin),
                                  params.slots,
                                  KvPages<T>(params.k_cache),
                                  KvPages<T>(params.v_cache),
                                  static_cast<int>(params.q.dim(1)),
                                  static_cast<int>(params.k.dim(1)),
                                  static_cast<int>(params.q.dim(2)) / 2};
  const int64_t pairs = int64_t{job.heads + 2 * job.kv_heads} * job.half;
  Launch(context, "RotateAppend", RotateAppend<T>, {RowGrid(pairs, params.q.dim(0)), kThreads},
         job);
}

}  // namespace

void RunRotateAppend(const CudaContext& context, const RotateAppendParams& params) {
  const int64_t head_dim = params.q.dim(2);
  CHECK_EQ(head_dim % 2, 0);
  CHECK_EQ(params.cos.dim(1), head_dim / 2);
  CHECK(params.cos.shape == params.sin.shape);
  CheckKvPages(params.k, params.v, params.k_cache, params.v_cache);
  CHECK(params.q.dim(0) == params.k.dim(0) && params.k.dim(2) == head_dim);
  if (params.q.dim(0) == 0) return;
  if (params.k_cache.dtype == DType::kBF16) {
    LaunchFor<__nv_bfloat16>(context, params);
  } else {
    LaunchFor<float>(context, params);
  }
}

}  // namespace krait::kernels
