#include "worker/tools/model_tensors.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {

std::vector<ModelTensor> LayerTensors(const ModelConfig& config, int64_t layer) {
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const int64_t hidden = config.hidden_size;
  const int64_t q = config.num_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  return {
      {prefix + "input_layernorm.weight", {hidden}},
      {prefix + "self_attn.q_proj.weight", {q, hidden}},
      {prefix + "self_attn.k_proj.weight", {kv, hidden}},
      {prefix + "self_attn.v_proj.weight", {kv, hidden}},
      {prefix + "self_attn.o_proj.weight", {hidden, q}},
      {prefix + "post_attention_layernorm.weight", {hidden}},
      {prefix + "mlp.gate_proj.weight", {config.intermediate_size, hidden}},
      {prefix + "mlp.up_proj.weight", {config.intermediate_size, hidden}},
      {prefix + "mlp.down_proj.weight", {hidden, config.intermediate_size}},
  };
}

std::vector<ModelTensor> GlobalTensors(const ModelConfig& config) {
  std::vector<ModelTensor> tensors = {
      {kEmbeddingName, {config.vocab_size, config.hidden_size}},
      {kFinalNormName, {config.hidden_size}},
  };
  if (!config.tie_word_embeddings) {
    tensors.push_back({kHeadName, {config.head_rows(), config.hidden_size}});
  }
  if (config.draft_vocab_size) {
    tensors.push_back({kDraftTokenMapName, {*config.draft_vocab_size}});
  }
  return tensors;
}

absl::Status CheckModelTensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::set<std::string> known;
  const auto expect = [&](const std::vector<ModelTensor>& tensors) {
    for (const ModelTensor& tensor : tensors) {
      RETURN_IF_ERROR(checkpoint.Expect(tensor.name, tensor.shape));
      known.insert(tensor.name);
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(expect(GlobalTensors(config)));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    RETURN_IF_ERROR(expect(LayerTensors(config, layer)));
  }
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (known.count(name) != 0 || IsRecomputedTensor(name)) continue;
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.file_paths()[tensor.file],
                                                   ": tensor ", tensor.stored_name,
                                                   ": stored, but the model has no place for it"));
  }
  return absl::OkStatus();
}

}  // namespace krait
