#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/layers/mamba_dims.h"
#include "worker/layers/rope_scaling.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// What mixes tokens in a layer.
enum class LayerKind { kAttention, kMamba1, kMamba2 };

// Whether attention obeys the RoPE scaling that a config.json lists. Hybrids with tensors mha.*
// were trained without it, whatever their base model's file says; those with self_attn.*, and all
// other models, with it.
enum class RopeScalingRule { kByNames, kApply, kIgnore };

// What a checkpoint says about its model. Every number is inside its range, so products of them fit
// 64 bits. Immutable after Load.
struct ModelConfig {
  std::string architecture;  // Hugging Face's: "LlamaForCausalLM", "MistralForCausalLM", ...
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;      // a multiple of 8; need not be hidden_size / num_heads
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;  // of the tokenizer and the embedding
  float rms_norm_eps = 0;
  RopeConfig rope;
  // Positions that an attention layer's token sees, its own included; 0: all.
  int64_t sliding_window = 0;
  // Which projections have biases.
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  int64_t max_context_tokens = 0;
  bool tie_word_embeddings = false;  // the head is the embedding
  std::vector<LayerKind> layers;     // [num_layers]
  std::optional<MambaDims> mamba1;   // of the layers of this kind, all alike
  std::optional<MambaDims> mamba2;   // same
  // Which projections are one tensor: attention's (mha.in_proj: q, k, v) and Mamba1's
  // (mamba.in_proj). Mamba2's always are.
  bool fused_attention = false;
  bool fused_mamba1 = false;
  // A draft whose head covers only some of the vocabulary: rows of lm_head.weight. Row i scores
  // token draft_token_map[i].
  std::optional<int64_t> draft_vocab_size;

  bool operator==(const ModelConfig&) const = default;

  bool has_recurrent_layers() const { return mamba1.has_value() || mamba2.has_value(); }
  int num_attention_layers() const;

  // Rows of the output head.
  int64_t head_rows() const { return draft_vocab_size.value_or(vocab_size); }

  // From the checkpoint's GGUF metadata or config.json. INVALID_ARGUMENT names file, field and
  // value: out of range, or something this build does not run (architecture, layer kind, kind of
  // RoPE scaling, quantization). A GGUF file's RoPE is always as it says.
  static absl::StatusOr<ModelConfig> Load(const Checkpoint& checkpoint,
                                          RopeScalingRule rule = RopeScalingRule::kByNames);

  // The tensor draft.token_map: head row -> target id, increasing, below `vocab_size`.
  // INVALID_ARGUMENT names the first entry that is not. Empty without such a tensor.
  absl::StatusOr<std::vector<int32_t>> LoadDraftTokenMap(const Checkpoint& checkpoint) const;
};

// Hugging Face names of a Llama's tensors.
inline constexpr char kEmbeddingName[] = "model.embed_tokens.weight";
inline constexpr char kFinalNormName[] = "model.norm.weight";
inline constexpr char kHeadName[] = "lm_head.weight";
inline constexpr char kDraftTokenMapName[] = "draft.token_map";
// Belongs to a GGUF file's configuration: see RopeDivisors.
inline constexpr char kGgufRopeDivisorsName[] = "rope_freqs.weight";

}  // namespace krait
