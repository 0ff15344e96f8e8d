#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace krait {

// Causal attention of new tokens over their sequence's pages, which already hold the new tokens'
// own K and V. Grouped queries: query head h reads KV head h / (heads / kv_heads).
//
// The context of a token is cut at absolute multiples of kAttentionSplit keys; a split's maximum,
// exponential sum and weighted sum of V are formed alone, in one fixed order, and splits are
// combined in increasing order. So the bits depend on the token's position and cache content only,
// not on how many tokens run in the same call.
inline constexpr int kAttentionSplit = 128;

struct PagedAttentionParams {
  TensorView q;        // [num_tokens, heads, head_dim], f32, rows strided
  TensorView k_cache;  // [num_pages, kv_heads, page_size, head_dim], f32
  TensorView v_cache;  // same
  int num_sequences = 0;
  const int32_t* query_start = nullptr;  // [num_sequences + 1]: rows of q of each sequence
  const int32_t* positions = nullptr;    // [num_tokens]: absolute; a token sees keys 0..position
  const int32_t* page_table = nullptr;   // [num_sequences, page_table_stride]
  int64_t page_table_stride = 0;
  float scale = 1.0f;  // of q.k
  TensorView out;      // [num_tokens, heads * head_dim], f32
};

}  // namespace krait
