#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace krait {

// Rope of a layer's new queries and keys, then KvAppend of its keys and values (ops/rope.h,
// ops/kv_append.h), which is what attention needs before it starts.
struct RotateAppendParams {
  TensorView q;  // [num_tokens, heads, head_dim], f32, in place, rows strided
  TensorView k;  // [num_tokens, kv_heads, head_dim], f32, rows strided; rotated or not afterwards
  TensorView v;  // same shape
  const int32_t* positions = nullptr;  // [num_tokens]
  TensorView cos;                      // [max_positions, head_dim / 2], f32
  TensorView sin;                      // same
  const int64_t* slots = nullptr;      // [num_tokens]: page * page_size + offset; negative: skip
  TensorView k_cache;                  // as KvAppend takes it
  TensorView v_cache;
};

}  // namespace krait
