#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"

namespace krait {

// out[t, :] = table[ids[t] - first_id, :], or -0, which adds nothing to any number, where the row is
// another rank's. A token whose id is not known to who made ids is named by where it was drawn: if
// sources[t] >= 0, its id is drawn[sources[t]].
struct EmbeddingParams {
  TensorView table;                  // [vocab_local, hidden], f32 or bf16
  const int32_t* ids = nullptr;      // [num_tokens]
  const int32_t* sources = nullptr;  // [num_tokens]; null: all ids are known
  const int32_t* drawn = nullptr;    // what ops/draw_tokens.h drew
  int32_t first_id = 0;
  TensorView out;  // [num_tokens, hidden], f32
};

}  // namespace krait
