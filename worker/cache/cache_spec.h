#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/core/dtype.h"

namespace krait {

using PageId = int32_t;
using StateSlotId = int32_t;
inline constexpr StateSlotId kNullSlot = -1;

// The KV pages of one rank: [num_layers] x {K, V} x [num_pages, kv_heads, page_size, head_dim].
struct PagedKvSpec {
  int num_layers = 0;  // attention layers
  int kv_heads = 0;    // of this rank
  int head_dim = 0;
  int page_size = 16;  // tokens
  DType dtype = DType::kF32;

  int64_t bytes_per_page() const {
    return int64_t{2} * num_layers * kv_heads * page_size * head_dim * ByteSize(dtype);
  }
};

// What one recurrent layer keeps of a sequence on this rank, all f32: a state, a ring of inputs
// since it, and a ring of inputs of its convolution (kernels/ops/recurrent_batch.h).
struct RecurrentLayerSpec {
  int64_t state_elements = 0;
  int64_t ring_length = 0;  // entries
  int64_t ring_width = 0;   // elements of an entry
  int64_t conv_length = 0;
  int64_t conv_width = 0;
  // Tokens between two folds of the ring into the state; 0: it is folded every step.
  int fold_interval = 0;

  int64_t state_bytes() const { return state_elements * 4; }
  int64_t ring_bytes() const { return (ring_length * ring_width + conv_length * conv_width) * 4; }
};

// Of all recurrent layers, in the order of the layers; empty for a model of attention alone. A slot
// holds one sequence's part of every layer.
struct RecurrentStateSpec {
  std::vector<RecurrentLayerSpec> layers;

  bool empty() const { return layers.empty(); }
  int64_t state_bytes_per_slot() const {
    int64_t bytes = 0;
    for (const RecurrentLayerSpec& layer : layers) bytes += layer.state_bytes();
    return bytes;
  }
  int64_t ring_bytes_per_slot() const {
    int64_t bytes = 0;
    for (const RecurrentLayerSpec& layer : layers) bytes += layer.ring_bytes();
    return bytes;
  }
  int64_t bytes_per_slot() const { return state_bytes_per_slot() + ring_bytes_per_slot(); }
  // The longest of all layers.
  int fold_interval() const {
    int longest = 0;
    for (const RecurrentLayerSpec& layer : layers) longest = std::max(longest, layer.fold_interval);
    return longest;
  }
};

}  // namespace krait
