#pragma once

#include <cstdint>
#include <limits>

#include "kernels/ops/paged_attention.h"

namespace krait::kernels {

inline constexpr int64_t kMaxHeadDim = 512;
inline constexpr int64_t kMaxGroup = 128;  // query heads a KV head

// One sequence's keys and values of one KV head, in pages.
struct AttentionTile {
  const float* k = nullptr;  // of page 0: [page_size, head_dim]
  const float* v = nullptr;
  const int32_t* page_table = nullptr;
  int64_t page_size = 0;
  int64_t page_stride = 0;  // elements from a page to the next
  int64_t head_dim = 0;
  float scale = 1;
};

// Where the keys and values of one split lie.
struct SplitRows {
  const float* k[kAttentionSplit];
  const float* v[kAttentionSplit];
  int num_keys = 0;

  // Positions [first, first + count); none beyond them is ever read. Filled up to a multiple of
  // eight with the last.
  void Locate(const AttentionTile& tile, int64_t first, int count) {
    int64_t page = first / tile.page_size, slot = first % tile.page_size;
    for (num_keys = 0; num_keys < count; ++num_keys, ++slot) {
      if (slot == tile.page_size) ++page, slot = 0;
      const int64_t at = tile.page_table[page] * tile.page_stride + slot * tile.head_dim;
      k[num_keys] = tile.k + at;
      v[num_keys] = tile.v + at;
    }
    for (int j = num_keys; j % 8 != 0; ++j) k[j] = k[num_keys - 1];
  }
};

// Of some keys' scores: the maximum and the sum of e^(s - max).
struct SplitState {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

}  // namespace krait::kernels
