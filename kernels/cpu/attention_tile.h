#pragma once

#include <cstdint>
#include <limits>

namespace krait::kernels {

inline constexpr int64_t kMaxHeadDim = 512;

// One sequence's keys and values of one KV head, in pages.
struct AttentionTile {
  const float* k = nullptr;  // of page 0: [page_size, head_dim]
  const float* v = nullptr;
  const int32_t* page_table = nullptr;
  int64_t page_size = 0;
  int64_t page_stride = 0;  // elements from a page to the next
  int64_t head_dim = 0;
  float scale = 1;

  int64_t Offset(int64_t position) const {
    return page_table[position / page_size] * page_stride + position % page_size * head_dim;
  }
  const float* Key(int64_t position) const { return k + Offset(position); }
  const float* Value(int64_t position) const { return v + Offset(position); }
};

// Of some keys' scores: the maximum and the sum of e^(s - max).
struct SplitState {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

}  // namespace krait::kernels
