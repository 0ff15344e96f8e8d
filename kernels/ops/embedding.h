#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace krait {

// out[t, :] = table[ids[t] - first_id, :] where that row exists here, zeros elsewhere: a rank's
// shard of the vocabulary answers for its own ids only.
struct EmbeddingParams {
  TensorView table;              // [vocab_local, hidden], f32 or bf16
  const int32_t* ids = nullptr;  // [num_tokens]
  int32_t first_id = 0;
  TensorView out;  // [num_tokens, hidden], f32
};

}  // namespace krait
