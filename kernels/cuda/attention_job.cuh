#pragma once

// What the kernels of paged attention share.
//
// The query heads of one KV head and the new tokens of one sequence are its columns: column c is
// head c mod group of token c / group. A unit is up to kUnitColumns of them; a block has one unit,
// one KV head and one split of keys, and leaves a partial for each column that sees any of them:
//   m = max s; p = e^(s - m); l = sum of p; o = sum of p v
// CombineColumns adds a column's partials up.

#include <cuda_bf16.h>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/ops/paged_attention.h"

namespace krait::kernels {

inline constexpr int kUnitColumns = 64;

// Of one unit: its tokens and what they see.
struct AttentionUnit {
  int sequence = 0;
  int first_row = 0;  // of the sequence
  int first_column = 0, num_columns = 0;
};

struct AttentionJob {
  Rows q;
  ResultRows out;
  const void* k = nullptr;
  const void* v = nullptr;
  int64_t page_stride = 0, page_size = 0;
  int kv_heads = 0, group = 0;  // query heads a KV head
  int head_dim = 0;
  const int32_t* query_start = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* page_table = nullptr;
  int64_t page_table_stride = 0;
  float scale = 1;
  int64_t window = 0;
  int units_per_sequence = 0;
  int first_unit = 0;  // of this launch
  int num_splits = 0;
  int columns = 0;  // of a unit, at most
  float* partials = nullptr;
  bool aligned = false;  // out can be written four elements at a time

  explicit AttentionJob(const PagedAttentionParams& params);

  static constexpr int kStatistics = 4;  // m, l, and room so that vectors stay aligned
  __host__ __device__ int64_t partial_size() const { return head_dim + kStatistics; }
  __host__ __device__ int64_t unit_size() const {
    return int64_t{columns} * kv_heads * num_splits * partial_size();
  }

  __device__ int64_t out_width() const { return int64_t{kv_heads} * group * head_dim; }

  // `unit` among those of this launch.
  __device__ AttentionUnit Unit(int unit) const {
    const int index = first_unit + unit;
    const int sequence = index / units_per_sequence;
    const int first_row = query_start[sequence];
    const int first_column = index % units_per_sequence * kUnitColumns;
    const int all = (query_start[sequence + 1] - first_row) * group;
    return {sequence, first_row, first_column, max(0, min(all - first_column, kUnitColumns))};
  }
  __device__ int Row(const AttentionUnit& unit, int column) const {
    return unit.first_row + (unit.first_column + column) / group;
  }
  __device__ int Head(const AttentionUnit& unit, int kv_head, int column) const {
    return kv_head * group + (unit.first_column + column) % group;
  }
  __device__ int64_t FirstKey(int64_t position) const {
    return window == 0 || position + 1 < window ? 0 : position + 1 - window;
  }
  // Whether a token at `position` sees any key of `split`.
  __device__ bool Sees(int64_t position, int split) const {
    return int64_t{split} * kAttentionSplit <= position &&
           int64_t{split + 1} * kAttentionSplit > FirstKey(position);
  }
  // o [head_dim], m, l.
  __device__ float* Partial(int unit, int kv_head, int column, int split) const {
    const int64_t index = (int64_t{unit} * kv_heads + kv_head) * columns + column;
    return partials + (index * num_splits + split) * partial_size();
  }
  // Where a key of a sequence lies in the cache, in elements.
  __device__ int64_t KeyOffset(int sequence, int kv_head, int64_t key) const {
    const int64_t page = page_table[sequence * page_table_stride + key / page_size];
    return page * page_stride + (kv_head * page_size + key % page_size) * head_dim;
  }
};

// Tensor cores, for caches in bf16 and the usual sizes of a head.
bool HasAttentionTiles(const PagedAttentionParams& params);
void LaunchAttentionTiles(const CudaContext& context, const AttentionJob& job, int num_units);

}  // namespace krait::kernels
