#pragma once

#include <cstdint>

namespace krait {

using PageId = int32_t;
using StateSlotId = int32_t;
inline constexpr StateSlotId kNullSlot = -1;

// The KV pages of one rank: [num_layers] x {K, V} x [num_pages, kv_heads, page_size, head_dim] f32.
struct PagedKvSpec {
  int num_layers = 0;  // attention layers
  int kv_heads = 0;    // of this rank
  int head_dim = 0;
  int page_size = 16;  // tokens

  int64_t bytes_per_page() const {
    return int64_t{2} * num_layers * kv_heads * page_size * head_dim * 4;
  }
};

}  // namespace krait
