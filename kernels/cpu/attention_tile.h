#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/ops/paged_attention.h"

namespace krait::kernels {

// One sequence's keys and values of one KV head, in pages.
struct AttentionTile {
  const float* k = nullptr;  // of page 0: [page_size, head_dim]
  const float* v = nullptr;
  const int32_t* page_table = nullptr;
  int64_t page_size = 0;
  int64_t page_stride = 0;  // elements from a page to the next
  int64_t head_dim = 0;
  float scale = 1;
  int64_t window = 0;  // positions a token sees; 0: all

  // The first position that the token at `position` sees.
  int64_t FirstKey(int64_t position) const {
    return window == 0 ? 0 : std::max<int64_t>(0, position + 1 - window);
  }
};

// Where the keys and values of one split lie: those of its keys [begin, end), a key's number being
// its position's distance from the split's first.
struct SplitRows {
  const float* k[kAttentionSplit];
  const float* v[kAttentionSplit];
  int begin = 0;
  int end = 0;

  // Whole vectors of eight keys that hold all of them.
  int first_lane() const { return begin / 8 * 8; }

  // Positions [from, to) of the split that begins at `first`; none beside them is ever read. The
  // lanes beside them repeat the nearest key.
  void Locate(const AttentionTile& tile, int64_t first, int64_t from, int64_t to) {
    begin = static_cast<int>(from - first);
    end = static_cast<int>(to - first);
    int64_t page = from / tile.page_size, slot = from % tile.page_size;
    for (int j = begin; j < end; ++j, ++slot) {
      if (slot == tile.page_size) ++page, slot = 0;
      const int64_t at = tile.page_table[page] * tile.page_stride + slot * tile.head_dim;
      k[j] = tile.k + at;
      v[j] = tile.v + at;
    }
    for (int j = first_lane(); j < begin; ++j) k[j] = k[begin];
    for (int j = end; j % 8 != 0; ++j) k[j] = k[end - 1];
  }
};

// Of some keys' scores: the maximum and the sum of e^(s - max).
struct SplitState {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

}  // namespace krait::kernels
