#pragma once

// Seeded random models small enough for unit tests, with everything a real model folder has. The
// weights are scaled so that layers matter more than the embedding of the last token: greedy output
// wanders instead of repeating.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/vocabulary.h"
#include "kernels/core/dtype.h"

namespace krait::testing {

struct TinyModelOptions {
  int64_t num_layers = 4;
  int64_t num_heads = 6;
  int64_t num_kv_heads = 3;
  int64_t head_dim = 8;
  int64_t hidden_size = 0;  // 0: num_heads * head_dim
  int64_t intermediate_size = 96;
  int64_t vocab_size = 512;  // 260 or more: special tokens, bytes, merges
  int64_t max_context_tokens = 1024;
  float rope_theta = 10000.0f;
  float rms_norm_eps = 1e-5f;
  std::string rope_scaling;          // a folder's rope_scaling, as JSON; empty: none
  std::vector<float> rope_divisors;  // a GGUF file's rope_freqs.weight; empty: none
  int64_t sliding_window = 0;        // 0: none; else a Mistral
  bool qkv_bias = false;             // alone: a Qwen2
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = true;
  uint64_t seed = 1;
};

struct TinyTensor {
  std::vector<int64_t> shape;  // slowest dimension first
  std::vector<float> values;
};

// A Llama in memory: change `tensors` before writing it. Keys are Hugging Face names.
struct TinyModel {
  TinyModelOptions options;
  std::map<std::string, TinyTensor> tensors;
  Vocabulary vocabulary;

  int64_t q_size() const { return options.num_heads * options.head_dim; }
  int64_t hidden_size() const { return options.hidden_size == 0 ? q_size() : options.hidden_size; }
};

// Ids 0..2 are <|endoftext|>, <|im_start|>, <|im_end|> (control; 2 ends a generation), then the 256
// bytes, then merges.
TinyModel MakeTinyModel(const TinyModelOptions& options = {});

// Adds Gaussian noise of `relative` times each matrix's own deviation: a draft that agrees often,
// not always.
void AddNoise(TinyModel& model, float relative, uint64_t seed);

// config.json, model.safetensors (kF32, kBF16 or kF16; `num_shards` > 1: shards and an index),
// tokenizer.json, tokenizer_config.json, generation_config.json. Creates `dir`; overwrites.
absl::Status WriteTinyFolder(const TinyModel& model, const std::string& dir,
                             DType dtype = DType::kF32, int num_shards = 1);

// A GGUF file of F32 tensors, q and k rows in GGUF's order, with the tokenizer in its metadata.
absl::Status WriteTinyGguf(const TinyModel& model, const std::string& path);

// A reduced-vocabulary draft of `model`: an untied head of the rows in `token_map` (increasing
// target ids) and the tensor draft.token_map. As WriteTinyFolder else.
absl::Status WriteTinyDraftFolder(const TinyModel& model, const std::vector<TokenId>& token_map,
                                  const std::string& dir);

}  // namespace krait::testing
