#pragma once

#include "tests/support/tiny_checkpoint.h"

namespace krait::testing {

// Makes the rows that have `token` in their history overflow, with weights that are all finite, as
// a checkpoint's must be: only its embedding is not zero in dimension 0, where the first layer's
// attention has huge weights.
inline void PlantOverflow(TokenId token, TinyModel& model) {
  const int64_t hidden = model.hidden_size();
  std::vector<float>& table = model.tensors.at("model.embed_tokens.weight").values;
  for (int64_t id = 0; id < model.options.vocab_size; ++id) {
    table[id * hidden] = id == token ? 10.0f : 0.0f;
  }
  for (auto& [name, tensor] : model.tensors) {
    if (name != "model.layers.0.self_attn.v_proj.weight" &&
        name != "model.layers.0.mha.in_proj.weight") {
      continue;
    }
    for (int64_t row = 0; row < tensor.shape[0]; ++row) tensor.values[row * hidden] = 3e38f;
  }
}

}  // namespace krait::testing
