// Causal attention over pages, in splits of kAttentionSplit keys on the absolute grid.
//
// A block has one split of one token and one KV head, and its query heads a few at a time:
//   s[j] = scale * (q . k[j])      thread j, four chains over d mod 4, then (0+2) + (1+3)
//   m = max s; p[j] = e^(s[j] - m); l = sum of p          a fixed tree
//   o[d] = one chain of fused multiply-adds of p[j] v[j][d] over j           threads along d
// A second kernel takes the splits of a head in increasing order:
//   M' = max(M, m); a = e^(M - M'); b = e^(m - M'); L = fma(l, b, L a); O[d] = fma(o[d], b, O[d] a)
// and out = O / L. Keys beside a token's own are never read and add nothing. The bits depend on the
// position, the window and the cache only.

#include <algorithm>

#include "common/fast_math.h"
#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"

namespace krait::kernels {
namespace {

constexpr int kSplitThreads = kAttentionSplit;  // one a key

struct AttentionJob {
  Rows q;
  ResultRows out;
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t page_stride = 0, page_size = 0;
  int64_t kv_heads = 0, group = 0;  // query heads a KV head
  int64_t head_dim = 0;
  const int32_t* query_start = nullptr;
  int num_sequences = 0;
  const int32_t* positions = nullptr;
  const int32_t* page_table = nullptr;
  int64_t page_table_stride = 0;
  float scale = 1;
  int64_t window = 0;
  int64_t first_token = 0;    // of this launch
  int64_t num_splits = 0;     // that partials have room for
  float* partials = nullptr;  // [tokens of this launch, heads, num_splits, head_dim + 2]: o, m, l

  explicit AttentionJob(const PagedAttentionParams& params) : q(params.q), out(params.out) {}

  __device__ int64_t FirstKey(int64_t position) const {
    return window == 0 || position + 1 < window ? 0 : position + 1 - window;
  }
  __device__ int64_t heads() const { return kv_heads * group; }
  __device__ float* Partial(int64_t token, int64_t head, int64_t split) const {
    return partials + ((token * heads() + head) * num_splits + split) * (head_dim + 2);
  }
  __device__ int SequenceOf(int64_t token) const {
    int low = 0, high = num_sequences - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (query_start[middle] <= token) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
};

__device__ float Dot(const float* q, const float* k, int64_t n) {
  float4 sum = {};
  for (int64_t d = 0; d < n; d += 4) {
    const float4 a = *reinterpret_cast<const float4*>(q + d);
    const float4 b = *reinterpret_cast<const float4*>(k + d);
    sum.x = fmaf(a.x, b.x, sum.x);
    sum.y = fmaf(a.y, b.y, sum.y);
    sum.z = fmaf(a.z, b.z, sum.z);
    sum.w = fmaf(a.w, b.w, sum.w);
  }
  return (sum.x + sum.z) + (sum.y + sum.w);
}

__global__ void __launch_bounds__(kSplitThreads) AttendSplit(AttentionJob job) {
  __shared__ float scratch[kSplitThreads / kWarpSize];
  __shared__ float p[kAttentionSplit];
  __shared__ int64_t offsets[kAttentionSplit];  // of each key in the cache
  __shared__ __align__(16) float q[kMaxAttentionHeadDim];
  const int64_t split = blockIdx.x, kv_head = blockIdx.y, token = job.first_token + blockIdx.z;
  const int64_t position = job.positions[token], first = split * kAttentionSplit;
  const int64_t first_key = job.FirstKey(position);
  if (first > position || first + kAttentionSplit <= first_key) return;
  const int begin = static_cast<int>(max(first_key - first, int64_t{0}));
  const int end = static_cast<int>(min(position + 1 - first, int64_t{kAttentionSplit}));
  const int j = threadIdx.x;
  const bool seen = j >= begin && j < end;
  if (seen) {
    const int64_t key = first + j;
    const int64_t page =
        job.page_table[job.SequenceOf(token) * job.page_table_stride + key / job.page_size];
    offsets[j] =
        page * job.page_stride + (kv_head * job.page_size + key % job.page_size) * job.head_dim;
  }
  for (int64_t g = 0; g < job.group; ++g) {
    const int64_t head = kv_head * job.group + g;
    __syncthreads();  // q and p of the head before
    for (int64_t d = j; d < job.head_dim; d += kSplitThreads) {
      q[d] = job.q[token][head * job.head_dim + d];
    }
    __syncthreads();
    const float s = seen ? job.scale * Dot(q, job.k + offsets[j], job.head_dim) : -INFINITY;
    const float max = BlockMax(s, scratch);
    p[j] = seen ? fast_math::Exp(s - max) : 0.0f;
    const float sum = BlockSum(p[j], scratch);  // also lets everyone see p
    float* partial = job.Partial(blockIdx.z, head, split);
    for (int64_t d = j; d < job.head_dim; d += kSplitThreads) {
      float o = 0;
      for (int i = begin; i < end; ++i) o = fmaf(p[i], job.v[offsets[i] + d], o);
      partial[d] = o;
    }
    if (j == 0) {
      partial[job.head_dim] = max;
      partial[job.head_dim + 1] = sum;
    }
  }
}

// A block a head of a token.
__global__ void __launch_bounds__(kSplitThreads) CombineSplits(AttentionJob job) {
  const int64_t head = blockIdx.x, token = job.first_token + blockIdx.y;
  const int64_t position = job.positions[token];
  const int64_t from = job.FirstKey(position) / kAttentionSplit, to = position / kAttentionSplit;
  for (int64_t d = threadIdx.x; d < job.head_dim; d += kSplitThreads) {
    const float* partial = job.Partial(blockIdx.y, head, from);
    float o = partial[d], max = partial[job.head_dim], sum = partial[job.head_dim + 1];
    for (int64_t split = from + 1; split <= to; ++split) {
      partial = job.Partial(blockIdx.y, head, split);
      const float split_max = partial[job.head_dim], larger = fmaxf(max, split_max);
      const float a = fast_math::Exp(max - larger), b = fast_math::Exp(split_max - larger);
      sum = fmaf(partial[job.head_dim + 1], b, sum * a);
      o = fmaf(partial[d], b, o * a);
      max = larger;
    }
    job.out.Store(token, head * job.head_dim + d, o / sum);
  }
}

AttentionJob MakeJob(const PagedAttentionParams& params) {
  AttentionJob job(params);
  job.k = params.k_cache.ptr<float>();
  job.v = params.v_cache.ptr<float>();
  job.page_stride = params.k_cache.row_stride;
  job.page_size = params.k_cache.dim(2);
  job.kv_heads = params.k_cache.dim(1);
  job.group = params.q.dim(1) / job.kv_heads;
  job.head_dim = params.q.dim(2);
  job.query_start = params.query_start;
  job.num_sequences = params.num_sequences;
  job.positions = params.positions;
  job.page_table = params.page_table;
  job.page_table_stride = params.page_table_stride;
  job.scale = params.scale;
  job.window = params.window;
  const int64_t keys = params.page_table_stride * job.page_size;
  job.num_splits = (keys + kAttentionSplit - 1) / kAttentionSplit;
  return job;
}

constexpr int64_t kMaxPartials = int64_t{1} << 24;  // floats of one launch
constexpr int64_t kMaxGrid = 65535;                 // blocks in y and z

}  // namespace

void RunPagedAttention(const CudaContext& context, const PagedAttentionParams& params) {
  CheckPagedAttention(params);
  const int64_t num_tokens = params.q.dim(0), heads = params.q.dim(1);
  if (num_tokens == 0) return;
  AttentionJob job = MakeJob(params);
  const int64_t per_token = heads * job.num_splits * (job.head_dim + 2);
  const int64_t step =
      std::min({num_tokens, kMaxGrid, std::max<int64_t>(1, kMaxPartials / per_token)});
  job.partials = context.workspace->Get<float>(step * per_token);
  for (; job.first_token < num_tokens; job.first_token += step) {
    const auto count = static_cast<unsigned>(std::min(step, num_tokens - job.first_token));
    const dim3 splits(static_cast<unsigned>(job.num_splits), static_cast<unsigned>(job.kv_heads),
                      count);
    AttendSplit<<<splits, kSplitThreads, 0, context.stream>>>(job);
    CombineSplits<<<dim3(static_cast<unsigned>(heads), count), kSplitThreads, 0, context.stream>>>(
        job);
    KRAIT_CHECK_LAUNCH("PagedAttention");
  }
}

}  // namespace krait::kernels
