#include "worker/models/model_tensors.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/models/hybrid_layers.h"

namespace krait {
namespace {

// A projection [n, k], with its bias if it has one.
void AddProjection(const std::string& name, int64_t n, int64_t k, bool has_bias,
                   std::vector<ModelTensor>& tensors) {
  tensors.push_back({name + ".weight", {n, k}});
  if (has_bias) tensors.push_back({name + ".bias", {n}});
}

void AddAttention(const ModelConfig& config, const std::string& layer,
                  std::vector<ModelTensor>& tensors) {
  const int64_t hidden = config.hidden_size;
  const int64_t q = config.num_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  if (config.fused_attention) {
    AddProjection(layer + "mha.in_proj", q + 2 * kv, hidden, false, tensors);
    AddProjection(layer + "mha.out_proj", hidden, q, false, tensors);
    return;
  }
  const std::string prefix = layer + "self_attn.";
  AddProjection(prefix + "q_proj", q, hidden, config.qkv_bias, tensors);
  AddProjection(prefix + "k_proj", kv, hidden, config.qkv_bias, tensors);
  AddProjection(prefix + "v_proj", kv, hidden, config.qkv_bias, tensors);
  AddProjection(prefix + "o_proj", hidden, q, config.attention_output_bias, tensors);
}

void AddMamba1(const MambaDims& dims, bool fused, const std::string& prefix,
               std::vector<ModelTensor>& tensors) {
  const int64_t hidden = dims.hidden_size, inner = dims.inner_size, xb = dims.xb_size;
  if (fused) {
    AddProjection(prefix + "in_proj", 2 * inner + 2 * xb + dims.dt_rank, hidden, false, tensors);
  } else {
    AddProjection(prefix + "in_proj_z", inner, hidden, false, tensors);
    AddProjection(prefix + "in_proj_x", xb, hidden, false, tensors);
    AddProjection(prefix + "B_proj", xb, hidden, false, tensors);
    AddProjection(prefix + "C_proj", inner, hidden, false, tensors);
    AddProjection(prefix + "dt_proj_down", dims.dt_rank, hidden, false, tensors);
  }
  AddProjection(prefix + "dt_proj", inner, dims.dt_rank, true, tensors);
  tensors.push_back({prefix + "conv1d.weight", {inner, 1, dims.conv_taps}});
  tensors.push_back({prefix + "conv1d.bias", {inner}});
  tensors.push_back({prefix + "A_log", {inner, dims.state_dim}});
  tensors.push_back({prefix + "D", {inner}});
  AddProjection(prefix + "out_proj", hidden, inner, false, tensors);
}

void AddMamba2(const MambaDims& dims, const std::string& prefix,
               std::vector<ModelTensor>& tensors) {
  const int64_t inner = dims.inner_size, channels = inner + 2 * dims.xb_size;
  const int64_t heads = dims.num_heads();
  AddProjection(prefix + "in_proj", inner + channels + heads, dims.hidden_size, false, tensors);
  tensors.push_back({prefix + "conv1d.weight", {channels, 1, dims.conv_taps}});
  tensors.push_back({prefix + "conv1d.bias", {channels}});
  for (const char* name : {"dt_bias", "A_log", "D"}) tensors.push_back({prefix + name, {heads}});
  tensors.push_back({prefix + "norm.weight", {inner}});
  AddProjection(prefix + "out_proj", dims.hidden_size, inner, false, tensors);
}

void AddMixer(const ModelConfig& config, int64_t layer, std::vector<ModelTensor>& tensors) {
  switch (config.layers[layer]) {
    case LayerKind::kAttention:
      return AddAttention(config, absl::StrCat("model.layers.", layer, "."), tensors);
    case LayerKind::kMamba1:
      return AddMamba1(*config.mamba1, config.fused_mamba1, MambaPrefix(layer), tensors);
    case LayerKind::kMamba2:
      return AddMamba2(*config.mamba2, MambaPrefix(layer), tensors);
  }
}

}  // namespace

std::vector<ModelTensor> LayerTensors(const ModelConfig& config, int64_t layer) {
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const int64_t hidden = config.hidden_size;
  const int64_t intermediate = config.intermediate_size;
  const bool mlp_bias = config.mlp_bias;
  std::vector<ModelTensor> tensors = {{prefix + "input_layernorm.weight", {hidden}}};
  AddMixer(config, layer, tensors);
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
