#pragma once

#include <cstdint>

#include "common/logging.h"
#include "kernels/core/tensor.h"

namespace krait {

// Causal attention of new tokens over their sequence's pages, which already hold the new tokens'
// own K and V. Grouped queries: query head h reads KV head h / (heads / kv_heads).
//
// The context of a token is cut at absolute multiples of kAttentionSplit keys; a split's maximum,
// exponential sum and weighted sum of V are formed alone, in one fixed order, and splits are
// combined in increasing order. So the bits depend on the token's position and cache content only,
// not on how many tokens run in the same call.
//
// With a sliding window a token sees the last `window` positions up to its own. Splits stay on the
// same grid and lanes keep their keys; keys before the window are never read and add nothing.
inline constexpr int kAttentionSplit = 128;

// What a backend's attention takes; a model beyond them is refused before it is loaded.
inline constexpr int64_t kAttentionHeadDimUnit = 8;  // head_dim is a multiple
inline constexpr int64_t kMaxAttentionHeadDim = 512;
inline constexpr int64_t kMaxAttentionGroup = 128;  // query heads a KV head

struct PagedAttentionParams {
  TensorView q;        // [num_tokens, heads, head_dim], f32, rows strided
  TensorView k_cache;  // [num_pages, kv_heads, page_size, head_dim], as KvAppend takes it
  TensorView v_cache;  // same
  int num_sequences = 0;
  const int32_t* query_start = nullptr;  // [num_sequences + 1]: rows of q of each sequence
  const int32_t* positions = nullptr;    // [num_tokens]: absolute; no later key is seen
  const int32_t* page_table = nullptr;   // [num_sequences, page_table_stride]
  int64_t page_table_stride = 0;
  float scale = 1.0f;  // of q.k
  int64_t window = 0;  // positions a token sees, its own included; 0: all
  TensorView out;      // [num_tokens, heads * head_dim], f32 or linear_input
};

// Shapes that every backend asks for; dies on a caller's bug.
inline void CheckPagedAttention(const PagedAttentionParams& params) {
  const int64_t heads = params.q.dim(1), head_dim = params.q.dim(2);
  CHECK(params.k_cache.shape == params.v_cache.shape);
  CHECK_EQ(params.k_cache.row_stride, params.v_cache.row_stride);
  CHECK_EQ(params.k_cache.dim(3), head_dim);
  CHECK(head_dim % kAttentionHeadDimUnit == 0 && head_dim <= kMaxAttentionHeadDim) << head_dim;
  CHECK_GE(params.window, 0);
  CHECK_EQ(heads % params.k_cache.dim(1), 0);
  CHECK_LE(heads / params.k_cache.dim(1), kMaxAttentionGroup);
  CHECK_EQ(params.out.dim(1), heads * head_dim);
}

}  // namespace krait
