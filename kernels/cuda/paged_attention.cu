// Causal attention over pages, in splits of kAttentionSplit keys on the absolute grid
// (attention_job.cuh). Here: any cache and any size of a head, a column after another.
//   s[j] = scale * (q . k[j])      thread j, four chains over d mod 4, then (0+2) + (1+3)
//   l                              a fixed tree
//   o[d] = one chain of fused multiply-adds of p[j] v[j][d] over j           threads along d
// and how splits are combined, in increasing order:
//   M = max m; w = e^(m - M); L = sum of l w; O[d] = one chain of o[d] w; out = O / L
// Keys beside a token's own are never read and add nothing. The bits depend on the position, the
// window and the cache only.

#include <algorithm>

#include "common/fast_math.h"
#include "common/logging.h"
#include "kernels/cuda/attention_job.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"

namespace krait::kernels {
namespace {

constexpr int kSplitThreads = kAttentionSplit;  // one a key

__device__ float4 Load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ float4 Load4(const __nv_bfloat16* from) {
  const auto pairs = *reinterpret_cast<const uint2*>(from);
  const float2 a = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pairs.x));
  const float2 b = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pairs.y));
  return {a.x, a.y, b.x, b.y};
}
__device__ float ToFloat(float value) { return value; }
__device__ float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ float Dot(const float* q, const T* k, int n) {
  float4 sum = {};
  for (int d = 0; d < n; d += 4) {
    const float4 a = Load4(q + d), b = Load4(k + d);
    sum.x = fmaf(a.x, b.x, sum.x);
    sum.y = fmaf(a.y, b.y, sum.y);
    sum.z = fmaf(a.z, b.z, sum.z);
    sum.w = fmaf(a.w, b.w, sum.w);
  }
  return (sum.x + sum.z) + (sum.y + sum.w);
}

// What a block's threads share.
struct SplitScratch {
  float sums[kSplitThreads / kWarpSize];
  float p[kAttentionSplit];
  int64_t offsets[kAttentionSplit];  // of each key in the cache
  alignas(16) float q[kMaxAttentionHeadDim];
};

template <typename T>
__device__ void AttendColumn(const AttentionJob& job, const AttentionUnit& unit, int column,
                             SplitScratch& scratch) {
  const int split = blockIdx.x, kv_head = blockIdx.y, j = threadIdx.x;
  const int row = job.Row(unit, column);
  const int64_t position = job.positions[row], first = int64_t{split} * kAttentionSplit;
  if (!job.Sees(position, split)) return;
  const int begin = static_cast<int>(max(job.FirstKey(position) - first, int64_t{0}));
  const int end = static_cast<int>(min(position + 1 - first, int64_t{kAttentionSplit}));
  const bool seen = j >= begin && j < end;
  __syncthreads();  // q and p of the column before
  if (seen) scratch.offsets[j] = job.KeyOffset(unit.sequence, kv_head, first + j);
  const float* q = job.q[row] + job.Head(unit, kv_head, column) * job.head_dim;
  for (int d = j; d < job.head_dim; d += kSplitThreads) scratch.q[d] = q[d];
  __syncthreads();
  const auto *k = static_cast<const T*>(job.k), *v = static_cast<const T*>(job.v);
  const float s =
      seen ? job.scale * Dot(scratch.q, k + scratch.offsets[j], job.head_dim) : -INFINITY;
  const float max = BlockMax(s, scratch.sums);
  scratch.p[j] = seen ? fast_math::Exp(s - max) : 0.0f;
  const float sum = BlockSum(scratch.p[j], scratch.sums);  // also lets everyone see p
  float* partial = job.Partial(blockIdx.z, kv_head, column, split);
  for (int d = j; d < job.head_dim; d += kSplitThreads) {
    float o = 0;
    for (int i = begin; i < end; ++i) {
      o = fmaf(scratch.p[i], ToFloat(v[scratch.offsets[i] + d]), o);
    }
    partial[d] = o;
  }
  if (j == 0) {
    partial[job.head_dim] = max;
    partial[job.head_dim + 1] = sum;
  }
}

template <typename T>
__global__ void __launch_bounds__(kSplitThreads) AttendSplit(AttentionJob job) {
  __shared__ SplitScratch scratch;
  StartInOrder();
  const AttentionUnit unit = job.Unit(blockIdx.z);
  for (int column = 0; column < unit.num_columns; ++column) {
    AttendColumn<T>(job, unit, column, scratch);
  }
}

constexpr int kCombineWarps = 4;

// A column's partials of splits [from, to], a lane a split, 32 at a time.
struct ColumnPartials {
  const float* first;  // of split 0
  int64_t stride;
  int head_dim, from, to;

  __device__ float Max() const {
    float max = -INFINITY;
    for (int split = from + Lane(); split <= to; split += kWarpSize) {
      max = fmaxf(max, first[split * stride + head_dim]);
    }
    return WarpMax(max);
  }
  // This lane's split of the 32 from `begin` on: w, and l w; zeros beyond the last.
  __device__ float2 Weigh(int begin, float max) const {
    const int split = begin + Lane();
    if (split > to) return {0, 0};
    const float* statistics = first + split * stride + head_dim;
    const float weight = fast_math::Exp(statistics[0] - max);
    return {weight, statistics[1] * weight};
  }
  __device__ static int Lane() { return threadIdx.x % kWarpSize; }
};

__device__ void AddScaled(const float4& o, float weight, float4& sum) {
  sum.x = fmaf(o.x, weight, sum.x);
  sum.y = fmaf(o.y, weight, sum.y);
  sum.z = fmaf(o.z, weight, sum.z);
  sum.w = fmaf(o.w, weight, sum.w);
}

// A warp's lanes along d, four each.
__device__ void CombineColumn(const ColumnPartials& partials, const AttentionJob& job, int row,
                              int head) {
  const int lane = ColumnPartials::Lane();
  const float max = partials.Max();
  for (int first_d = 0; first_d < job.head_dim; first_d += 4 * kWarpSize) {
    const int d = first_d + 4 * lane;
    const bool mine = d < job.head_dim;
    float total = 0;
    float4 o = {};
    for (int begin = partials.from; begin <= partials.to; begin += kWarpSize) {
      const float2 weight = partials.Weigh(begin, max);
      total += WarpSum(weight.y);
      const int count = min(kWarpSize, partials.to + 1 - begin);
#pragma unroll 8
      for (int i = 0; i < count; ++i) {
        const float w = __shfl_sync(kAllLanes, weight.x, i);
        if (mine) AddScaled(Load4(partials.first + (begin + i) * partials.stride + d), w, o);
      }
    }
    if (!mine) continue;
    const float4 result = {o.x / total, o.y / total, o.z / total, o.w / total};
    job.out.Store4(row, int64_t{head} * job.head_dim + d, result, job.out_width(), job.aligned);
  }
}

__global__ void __launch_bounds__(kCombineWarps* kWarpSize) CombineColumns(AttentionJob job) {
  StartInOrder();
  const int column = blockIdx.x * kCombineWarps + threadIdx.x / kWarpSize, kv_head = blockIdx.y;
  const AttentionUnit unit = job.Unit(blockIdx.z);
  if (column >= unit.num_columns) return;
  const int row = job.Row(unit, column);
  const int64_t position = job.positions[row];
  const ColumnPartials partials = {job.Partial(blockIdx.z, kv_head, column, 0), job.partial_size(),
                                   job.head_dim,
                                   static_cast<int>(job.FirstKey(position) / kAttentionSplit),
                                   static_cast<int>(position / kAttentionSplit)};
  CombineColumn(partials, job, row, job.Head(unit, kv_head, column));
}

constexpr int64_t kMaxPartials = int64_t{1} << 24;  // floats of one launch
constexpr int64_t kMaxGrid = 65535;                 // blocks in y and z

dim3 UnitGrid(int x, const AttentionJob& job, int num_units) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(job.kv_heads),
              static_cast<unsigned>(num_units));
}

void LaunchSplits(const CudaContext& context, const PagedAttentionParams& params,
                  const AttentionJob& job, int num_units) {
  if (HasAttentionTiles(params)) {
    LaunchAttentionTiles(context, job, num_units);
    return;
  }
  const auto kernel =
      params.k_cache.dtype == DType::kBF16 ? AttendSplit<__nv_bfloat16> : AttendSplit<float>;
  Launch(context, "PagedAttention", kernel,
         {UnitGrid(job.num_splits, job, num_units), kSplitThreads}, job);
}

}  // namespace

AttentionJob::AttentionJob(const PagedAttentionParams& params)
    : q(params.q),
      out(params.out),
      k(params.k_cache.data),
      v(params.v_cache.data),
      page_stride(params.k_cache.row_stride),
      page_size(params.k_cache.dim(2)),
      kv_heads(static_cast<int>(params.k_cache.dim(1))),
      group(static_cast<int>(params.q.dim(1)) / kv_heads),
      head_dim(static_cast<int>(params.q.dim(2))),
      query_start(params.query_start),
      positions(params.positions),
      page_table(params.page_table),
      page_table_stride(params.page_table_stride),
      scale(params.scale),
      window(params.window),
      aligned(IsVectorAligned(params.out)) {
  const int64_t keys = page_table_stride * page_size;
  num_splits = static_cast<int>((keys + kAttentionSplit - 1) / kAttentionSplit);
  // No sequence has more new tokens than are left if the others have one each.
  const int64_t most = (params.q.dim(0) - params.num_sequences + 1) * group;
  units_per_sequence = static_cast<int>((most + kUnitColumns - 1) / kUnitColumns);
  columns = static_cast<int>(std::min<int64_t>(most, kUnitColumns));
}

void RunPagedAttention(const CudaContext& context, const PagedAttentionParams& params) {
  CheckPagedAttention(params);
  if (params.q.dim(0) == 0) return;
  AttentionJob job(params);
  const int num_units = params.num_sequences * job.units_per_sequence;
  const auto step = static_cast<int>(std::min<int64_t>(
      {num_units, kMaxGrid, std::max<int64_t>(1, kMaxPartials / job.unit_size())}));
  job.partials = context.workspace->Get<float>(step * job.unit_size());
  for (; job.first_unit < num_units; job.first_unit += step) {
    const int count = std::min(step, num_units - job.first_unit);
    LaunchSplits(context, params, job, count);
    const int blocks = (job.columns + kCombineWarps - 1) / kCombineWarps;
    Launch(context, "PagedAttention (combine)", CombineColumns,
           {UnitGrid(blocks, job, count), kCombineWarps * kWarpSize}, job);
  }
}

}  // namespace krait::kernels
