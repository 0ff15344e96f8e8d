#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// A model without weights, to measure what it would cost: a JSON object with the names of a Hugging
// Face config.json (hidden_size, num_attention_heads, num_key_value_heads, head_dim,
// intermediate_size, vocab_size, max_position_embeddings, rms_norm_eps, rope_theta,
// tie_word_embeddings) and "mixers", a letter a layer: A attention, 1 Mamba1, 2 Mamba2; "d_state",
// "d_conv" and "dt_rank" of the Mamba layers, by default the head's size (Mamba2) or 16 (Mamba1),
// 4, and hidden_size / 16. deploy/shapes has some. INVALID_ARGUMENT names file, field and value.
absl::StatusOr<ModelConfig> ReadModelShape(const std::string& path);

// The first layers of it, and of a vocabulary the first ids.
ModelConfig ReduceModel(ModelConfig config, int64_t num_layers, int64_t vocab_size);

// All tensors of `config`, with numbers nobody trained.
Checkpoint SyntheticCheckpoint(const ModelConfig& config);

}  // namespace krait
