#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace krait {

// Writes each token's K and V into its slot of the paged cache.
struct KvAppendParams {
  TensorView k;                    // [num_tokens, kv_heads, head_dim], f32, rows strided
  TensorView v;                    // same
  const int64_t* slots = nullptr;  // [num_tokens]: page * page_size + offset; negative: skip
  // [num_pages, kv_heads, page_size, head_dim], f32; on a GPU also bf16, which rounds.
  TensorView k_cache;
  TensorView v_cache;  // same
};

}  // namespace krait
