#include "worker/models/model_tensors.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {

namespace {

// A projection [n, k], with its bias if it has one.
void AddProjection(const std::string& name, int64_t n, int64_t k, bool has_bias,
                   std::vector<ModelTensor>& tensors) {
  tensors.push_back({name + ".weight", {n, k}});
  if (has_bias) tensors.push_back({name + ".bias", {n}});
}

}  // namespace

std::vector<ModelTensor> LayerTensors(const ModelConfig& config, int64_t layer) {
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const int64_t hidden = config.hidden_size;
  const int64_t q = config.num_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  const int64_t intermediate = config.intermediate_size;
  const bool qkv_bias = config.qkv_bias, mlp_bias = config.mlp_bias;
  std::vector<ModelTensor> tensors = {{prefix + "input_layernorm.weight", {hidden}}};
  AddProjection(prefix + "self_attn.q_proj", q, hidden, qkv_bias, tensors);
  AddProjection(prefix + "self_attn.k_proj", kv, hidden, qkv_bias, tensors);
  AddProjection(prefix + "self_attn.v_proj", kv, hidden, qkv_bias, tensors);
  AddProjection(prefix + "self_attn.o_proj", hidden, q, config.attention_output_bias, tensors);
  tensors.push_back({prefix + "post_attention_layernorm.weight", {hidden}});
  AddProjection(prefix + "mlp.gate_proj", intermediate, hidden, mlp_bias, tensors);
  AddProjection(prefix + "mlp.up_proj", intermediate, hidden, mlp_bias, tensors);
  AddProjection(prefix + "mlp.down_proj", hidden, intermediate, mlp_bias, tensors);
  return tensors;
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
  if (checkpoint.files().is_gguf()) known.insert(kGgufRopeDivisorsName);  // read with the config
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
