// A split of attention on tensor cores, for caches in bf16 (attention_job.cuh). A block has up to
// 64 columns, eight at a time as the n of mma.m16n8k16, and reads its keys and values once.
//
//   S = K q: a warp 16 keys, one chain of steps of 16 along d, with q's upper bf16 half, then on
//       with its lower one (q - upper): as exact as f32 needs, for K is bf16
//   m, p, l: a warp a column, lane i keys i, i + 32, .. in order, then a fixed tree
//   O = V^T p: a warp 16 of d, one chain of steps of 16 keys, each with p's upper half and then its
//       lower one
//
// A column's chains do not see the columns beside it, and keys it does not see have p = 0: of
// values that are not finite, too (ContainFaults).

#include <algorithm>

#include "common/fast_math.h"
#include "kernels/cuda/attention_job.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace krait::kernels {
namespace {

constexpr int kWarps = 8;
constexpr int kTileKeys = kAttentionSplit / kWarps;  // of a warp, m of mma.m16n8k16
constexpr int kTileColumns = 8;                      // n
constexpr int kSplitStride = kAttentionSplit + 8;    // floats a column of p, without bank conflicts
static_assert(kTileKeys == 16);

// Rows of bf16 in shared memory, padded so that neither eight rows of 16 bytes (ldmatrix) nor
// quarters of two rows of 64 bytes meet in a bank.
template <int kHeadDim>
struct Layout {
  static constexpr int kQueryStride = kHeadDim + 32;
  static constexpr int kValueStride = kHeadDim + 8;

  static constexpr int values_bytes() { return kAttentionSplit * kValueStride * 2; }
  static constexpr int column_bytes() { return 2 * kQueryStride * 2 + kSplitStride * 4; }
};

// What the columns of a unit see of a split.
struct SplitRange {
  int begin, end;  // keys of the split, from the first that any column sees to the last
  int unsure;      // from here on there are columns that do not see a key yet
};

// By a whole warp.
__device__ SplitRange RangeOf(const AttentionJob& job, const AttentionUnit& unit, int split) {
  int low = INT_MAX, high = -1;
  for (int c = threadIdx.x % kWarpSize; c < unit.num_columns; c += kWarpSize) {
    const int position = job.positions[job.Row(unit, c)];
    low = min(low, position);
    high = max(high, position);
  }
  low = __reduce_min_sync(kAllLanes, low);
  high = __reduce_max_sync(kAllLanes, high);
  const int64_t first = int64_t{split} * kAttentionSplit;
  const int64_t begin = max(job.FirstKey(low) - first, int64_t{0});
  const int64_t end = min(high + 1 - first, int64_t{kAttentionSplit});
  const int64_t unsure = max(low + 1 - first, begin);
  return {static_cast<int>(begin), static_cast<int>(end),
          static_cast<int>(min(unsure, int64_t{kAttentionSplit}))};
}

// A lane's part of 16 keys: keys g and g + 8 of them, and of each 32 of d the eight from 8 t on.
template <int kHeadDim>
struct KeyTile {
  uint4 low[kHeadDim / 32], high[kHeadDim / 32];

  __device__ void Load(const AttentionJob& job, const AttentionUnit& unit, int kv_head, int split,
                       const SplitRange& range, int first_key, int lane) {
    Load(job, unit, kv_head, split, range, first_key + lane / 4, lane, low);
    Load(job, unit, kv_head, split, range, first_key + lane / 4 + 8, lane, high);
  }

 private:
  __device__ static void Load(const AttentionJob& job, const AttentionUnit& unit, int kv_head,
                              int split, const SplitRange& range, int key, int lane,
                              uint4 (&to)[kHeadDim / 32]) {
    const bool seen = key >= range.begin && key < range.end;
    const auto* from = static_cast<const __nv_bfloat16*>(job.k);
    if (seen) {
      from += job.KeyOffset(unit.sequence, kv_head, int64_t{split} * kAttentionSplit + key);
    }
#pragma unroll
    for (int j = 0; j < kHeadDim / 32; ++j) {
      to[j] = seen ? *reinterpret_cast<const uint4*>(from + j * 32 + lane % 4 * 8) : uint4{};
    }
  }
};

// Values of keys that no column sees are zeros: their p is 0, but what lies there may be NaN.
template <int kHeadDim>
__device__ void CopyValues(const AttentionJob& job, const AttentionUnit& unit, int kv_head,
                           int split, const SplitRange& range, __nv_bfloat16* values) {
  constexpr int kVectors = kHeadDim / 8;
  for (int i = threadIdx.x; i < kAttentionSplit * kVectors; i += kWarps * kWarpSize) {
    const int key = i / kVectors, d = i % kVectors * 8;
    auto* to = reinterpret_cast<uint4*>(values + key * Layout<kHeadDim>::kValueStride + d);
    if (key < range.begin || key >= range.end) {
      *to = uint4{};
      continue;
    }
    const auto* from =
        static_cast<const __nv_bfloat16*>(job.v) +
        job.KeyOffset(unit.sequence, kv_head, int64_t{split} * kAttentionSplit + key) + d;
    CopyAsync(to, reinterpret_cast<const uint4*>(from));
  }
  CommitCopies();
}

// Upper and lower halves of the columns' queries; zeros beyond the last.
template <int kHeadDim>
__device__ void SplitQueries(const AttentionJob& job, const AttentionUnit& unit, int kv_head,
                             int num_columns, __nv_bfloat16* upper, __nv_bfloat16* lower) {
  for (int i = threadIdx.x; i < num_columns * kHeadDim; i += kWarps * kWarpSize) {
    const int column = i / kHeadDim, d = i % kHeadDim;
    float value = 0;
    if (column < unit.num_columns) {
      value = job.q[job.Row(unit, column)][job.Head(unit, kv_head, column) * kHeadDim + d];
    }
    const __nv_bfloat16 rounded = __float2bfloat16_rn(value);
    const int at = column * Layout<kHeadDim>::kQueryStride + d;
    upper[at] = rounded;
    lower[at] = __float2bfloat16_rn(value - __bfloat162float(rounded));
  }
}

template <int kHeadDim>
__device__ void AddProducts(const KeyTile<kHeadDim>& keys, const __nv_bfloat16* queries, int lane,
                            float4& sums) {
  const __nv_bfloat16* own = queries + lane / 4 * Layout<kHeadDim>::kQueryStride + lane % 4 * 8;
#pragma unroll
  for (int j = 0; j < kHeadDim / 32; ++j) {
    const uint4 q = *reinterpret_cast<const uint4*>(own + j * 32);
    MultiplyAdd(sums, keys.low[j].x, keys.high[j].x, keys.low[j].y, keys.high[j].y, q.x, q.y);
    MultiplyAdd(sums, keys.low[j].z, keys.high[j].z, keys.low[j].w, keys.high[j].w, q.z, q.w);
  }
}

// q . k of a warp's 16 keys and eight columns, to s [column][key].
template <int kHeadDim>
__device__ void Score(const KeyTile<kHeadDim>& keys, const __nv_bfloat16* upper,
                      const __nv_bfloat16* lower, int first_key, int lane, float* s) {
  float4 sums = {};
  AddProducts<kHeadDim>(keys, upper, lane, sums);
  AddProducts<kHeadDim>(keys, lower, lane, sums);
  float* to = s + lane % 4 * 2 * kSplitStride + first_key + lane / 4;
  to[0] = sums.x;
  to[kSplitStride] = sums.y;
  to[8] = sums.z;
  to[kSplitStride + 8] = sums.w;
}

// p in two halves, where q . k stood.
__device__ uint32_t Halves(float p) {
  const __nv_bfloat16 upper = __float2bfloat16_rn(p);
  const __nv_bfloat16 lower = __float2bfloat16_rn(p - __bfloat162float(upper));
  return uint32_t{__bfloat16_as_ushort(upper)} | uint32_t{__bfloat16_as_ushort(lower)} << 16;
}

// A warp a column: p of all keys, and m and l of the partial.
__device__ void Weigh(const AttentionJob& job, const AttentionUnit& unit, int kv_head, int split,
                      int column, float* s) {
  constexpr int kKeys = kAttentionSplit / kWarpSize;  // of a lane
  const int lane = threadIdx.x % kWarpSize;
  const bool real = column < unit.num_columns;
  const int64_t position = real ? job.positions[job.Row(unit, column)] : -1;
  const int64_t first_key = job.FirstKey(position), first = int64_t{split} * kAttentionSplit;
  float own[kKeys], max = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < kKeys; ++i) {
    const int64_t key = first + lane + i * kWarpSize;
    const bool seen = key <= position && key >= first_key;
    own[i] = seen ? job.scale * s[lane + i * kWarpSize] : -INFINITY;
    max = fmaxf(max, own[i]);
  }
  max = WarpMax(max);
#pragma unroll
  for (int i = 0; i < kKeys; ++i) {
    const float p = own[i] == -INFINITY ? 0.0f : fast_math::Exp(own[i] - max);
    sum += p;
    reinterpret_cast<uint32_t*>(s)[lane + i * kWarpSize] = Halves(p);
  }
  sum = WarpSum(sum);
  if (!real || lane != 0 || !job.Sees(position, split)) return;
  float* statistics = job.Partial(blockIdx.z, kv_head, column, split) + job.head_dim;
  statistics[0] = max;
  statistics[1] = sum;
}

// 0 times a value that is not finite would be NaN in columns that do not see its key. Only a
// draft's can be, for whoever has one among its tokens has ended: so only a unit's own keys are
// looked at. Such values become zeros, and their weights NaN in columns that do see them.
template <int kHeadDim>
__device__ void ContainFaults(const AttentionJob& job, const AttentionUnit& unit, int split,
                              const SplitRange& range, __nv_bfloat16* values, uint32_t* p) {
  constexpr uint32_t kNaNs = 0x7fc07fc0;
  const int lane = threadIdx.x % kWarpSize;
  for (int key = range.unsure + threadIdx.x / kWarpSize; key < range.end; key += kWarps) {
    __nv_bfloat16* row = values + key * Layout<kHeadDim>::kValueStride;
    bool finite = true;
    for (int d = lane; d < kHeadDim; d += kWarpSize) finite &= isfinite(__bfloat162float(row[d]));
    if (__all_sync(kAllLanes, finite)) continue;
    for (int d = lane; d < kHeadDim; d += kWarpSize) row[d] = __float2bfloat16_rn(0.0f);
    const int64_t at = int64_t{split} * kAttentionSplit + key;
    for (int c = lane; c < unit.num_columns; c += kWarpSize) {
      const int64_t position = job.positions[job.Row(unit, c)];
      if (at <= position && at >= job.FirstKey(position)) p[c * kSplitStride + key] = kNaNs;
    }
  }
}

// 16 of d and eight columns, over all keys.
template <int kHeadDim>
__device__ float4 SumValues(const __nv_bfloat16* values, int first_d, const uint32_t* p, int lane) {
  float4 sums = {};
  // Rows of the four 8 x 8 blocks: keys 0-7 and d 0-7, d 8-15, then keys 8-15.
  const int key = lane % 8 + lane / 16 * 8, d = first_d + lane / 8 % 2 * 8;
  const __nv_bfloat16* rows = values + key * Layout<kHeadDim>::kValueStride + d;
  const uint32_t* own = p + lane / 4 * kSplitStride + lane % 4 * 2;
#pragma unroll
  for (int step = 0; step < kAttentionSplit / 16; ++step) {
    const uint4 v = LoadTransposed(rows + step * 16 * Layout<kHeadDim>::kValueStride);
    const auto near = *reinterpret_cast<const uint2*>(own + step * 16);
    const auto far = *reinterpret_cast<const uint2*>(own + step * 16 + 8);
    MultiplyAdd(sums, v.x, v.y, v.z, v.w, __byte_perm(near.x, near.y, 0x5410),
                __byte_perm(far.x, far.y, 0x5410));
    MultiplyAdd(sums, v.x, v.y, v.z, v.w, __byte_perm(near.x, near.y, 0x7632),
                __byte_perm(far.x, far.y, 0x7632));
  }
  return sums;
}

__device__ void StoreSums(const AttentionJob& job, const AttentionUnit& unit, int kv_head,
                          int split, int first_column, int first_d, int lane, const float4& sums) {
  const int column = first_column + lane % 4 * 2, d = first_d + lane / 4;
  const float2 each[2] = {{sums.x, sums.z}, {sums.y, sums.w}};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (column + i >= unit.num_columns) return;
    if (!job.Sees(job.positions[job.Row(unit, column + i)], split)) continue;
    float* partial = job.Partial(blockIdx.z, kv_head, column + i, split);
    partial[d] = each[i].x;
    partial[d + 8] = each[i].y;
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kWarps* kWarpSize) AttendTiles(AttentionJob job) {
  extern __shared__ uint4 shared[];
  auto* values = reinterpret_cast<__nv_bfloat16*>(shared);
  StartInOrder();
  const int split = blockIdx.x, kv_head = blockIdx.y;
  const AttentionUnit unit = job.Unit(blockIdx.z);
  if (unit.num_columns == 0) return;
  const SplitRange range = RangeOf(job, unit, split);
  if (range.begin >= range.end) return;
  const int num_columns = (unit.num_columns + kTileColumns - 1) / kTileColumns * kTileColumns;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  constexpr int kQueryStride = Layout<kHeadDim>::kQueryStride;
  __nv_bfloat16* upper = values + kAttentionSplit * Layout<kHeadDim>::kValueStride;
  __nv_bfloat16* lower = upper + num_columns * kQueryStride;
  auto* s = reinterpret_cast<float*>(lower + num_columns * kQueryStride);
  KeyTile<kHeadDim> keys;
  keys.Load(job, unit, kv_head, split, range, warp * kTileKeys, lane);
  CopyValues<kHeadDim>(job, unit, kv_head, split, range, values);
  SplitQueries<kHeadDim>(job, unit, kv_head, num_columns, upper, lower);
  __syncthreads();
  for (int c = 0; c < num_columns; c += kTileColumns) {
    Score<kHeadDim>(keys, upper + c * kQueryStride, lower + c * kQueryStride, warp * kTileKeys,
                    lane, s + c * kSplitStride);
  }
  __syncthreads();
  for (int c = warp; c < num_columns; c += kWarps) {
    Weigh(job, unit, kv_head, split, c, s + c * kSplitStride);
  }
  AwaitCopies<0>();
  __syncthreads();
  if (range.unsure < range.end) {
    ContainFaults<kHeadDim>(job, unit, split, range, values, reinterpret_cast<uint32_t*>(s));
    __syncthreads();
  }
  // Tiles of d and of columns, spread over the warps.
  constexpr int kTilesOfD = kHeadDim / 16;
  for (int i = warp; i < kTilesOfD * num_columns / kTileColumns; i += kWarps) {
    const int first_d = i % kTilesOfD * 16, c = i / kTilesOfD * kTileColumns;
    const float4 sums = SumValues<kHeadDim>(
        values, first_d, reinterpret_cast<const uint32_t*>(s) + c * kSplitStride, lane);
    StoreSums(job, unit, kv_head, split, c, first_d, lane, sums);
  }
}

template <int kHeadDim>
void LaunchFor(const CudaContext& context, const AttentionJob& job, int num_units) {
  const int columns = (job.columns + kTileColumns - 1) / kTileColumns * kTileColumns;
  const int shared_bytes =
      Layout<kHeadDim>::values_bytes() + columns * Layout<kHeadDim>::column_bytes();
  const dim3 grid(static_cast<unsigned>(job.num_splits), static_cast<unsigned>(job.kv_heads),
                  static_cast<unsigned>(num_units));
  const auto kernel = AttendTiles<kHeadDim>;
  AllowSharedMemory(kernel, shared_bytes);
  Launch(context, "PagedAttention", kernel, {grid, kWarps * kWarpSize, shared_bytes}, job);
}

}  // namespace

bool HasAttentionTiles(const PagedAttentionParams& params) {
  const int64_t head_dim = params.q.dim(2);
  return params.k_cache.dtype == DType::kBF16 && (head_dim == 64 || head_dim == 128);
}

void LaunchAttentionTiles(const CudaContext& context, const AttentionJob& job, int num_units) {
  if (job.head_dim == 64) {
    LaunchFor<64>(context, job, num_units);
  } else {
    LaunchFor<128>(context, job, num_units);
  }
}

}  // namespace krait::kernels
