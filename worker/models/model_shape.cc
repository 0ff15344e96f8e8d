#include "worker/models/model_shape.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/models/hugging_face_source.h"
#include "worker/models/model_tensors.h"

namespace krait {
namespace {

constexpr uint64_t kSeed = 1;
constexpr IntRange kStateDims = {8, 256};
constexpr IntRange kTaps = {1, 8};

absl::Status ReadMixers(const HuggingFaceSource& source, ModelConfig& config) {
  ASSIGN_OR_RETURN(const std::string mixers, source.String("mixers"));
  for (const char mixer : mixers) {
    if (mixer != 'A' && mixer != '1' && mixer != '2') {
      return source.Bad("mixers", "letters A, 1 and 2 wanted");
    }
    config.layers.push_back(mixer == 'A'   ? LayerKind::kAttention
                            : mixer == '1' ? LayerKind::kMamba1
                                           : LayerKind::kMamba2);
  }
  config.num_layers = static_cast<int64_t>(mixers.size());
  return CheckRange(source.file(), "mixers", config.num_layers, kLayersRange);
}

absl::Status ReadMamba(const HuggingFaceSource& source, LayerKind kind, ModelConfig& config) {
  if (std::count(config.layers.begin(), config.layers.end(), kind) == 0) return absl::OkStatus();
  const bool mamba1 = kind == LayerKind::kMamba1;
  MambaDims dims{.hidden_size = config.hidden_size,
                 .inner_size = config.num_heads * config.head_dim,
                 .xb_size = config.num_kv_heads * config.head_dim,
                 .num_units = config.num_kv_heads};
  ASSIGN_OR_RETURN(dims.state_dim,
                   source.IntOr("d_state", kStateDims, mamba1 ? 16 : config.head_dim));
  ASSIGN_OR_RETURN(dims.conv_taps, source.IntOr("d_conv", kTaps, 4));
  if (mamba1) {
    ASSIGN_OR_RETURN(dims.dt_rank, source.IntOr("dt_rank", kHiddenRange, config.hidden_size / 16));
  }
  if (config.head_dim % dims.state_dim != 0 || dims.state_dim % 8 != 0) {
    return source.Bad("d_state",
                      absl::StrCat(dims.state_dim, " must be a multiple of 8 that divides ",
                                   config.head_dim, ", the head's size"));
  }
  (mamba1 ? config.mamba1 : config.mamba2) = dims;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadModelShape(const std::string& path) {
  ASSIGN_OR_RETURN(const HuggingFaceSource source, HuggingFaceSource::Open(path));
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  ASSIGN_OR_RETURN(config.hidden_size, source.Int("hidden_size", kHiddenRange));
  ASSIGN_OR_RETURN(config.num_heads, source.Int("num_attention_heads", kHeadsRange));
  ASSIGN_OR_RETURN(config.num_kv_heads, source.Int("num_key_value_heads", kHeadsRange));
  ASSIGN_OR_RETURN(config.head_dim, source.Int("head_dim", kHeadDimRange));
  if (config.num_heads % config.num_kv_heads != 0) {
    return source.Bad("num_key_value_heads", absl::StrCat(config.num_kv_heads, " must divide ",
                                                          config.num_heads, " heads"));
  }
  if (config.head_dim % kAttentionHeadDimUnit != 0) {
    return source.Bad("head_dim", absl::StrCat("must be a multiple of ", kAttentionHeadDimUnit));
  }
  ASSIGN_OR_RETURN(config.intermediate_size, source.Int("intermediate_size", kIntermediateRange));
  ASSIGN_OR_RETURN(config.vocab_size, source.Int("vocab_size", kVocabRange));
  ASSIGN_OR_RETURN(config.max_context_tokens, source.Int("max_position_embeddings", kContextRange));
  ASSIGN_OR_RETURN(const double eps, source.Double("rms_norm_eps"));
  config.rms_norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(config.rope.theta, source.Float("rope_theta", kRopeThetaRange));
  ASSIGN_OR_RETURN(config.tie_word_embeddings, source.BoolOr("tie_word_embeddings", false));
  RETURN_IF_ERROR(ReadMixers(source, config));
  RETURN_IF_ERROR(ReadMamba(source, LayerKind::kMamba1, config));
  RETURN_IF_ERROR(ReadMamba(source, LayerKind::kMamba2, config));
  return config;
}

ModelConfig ReduceModel(ModelConfig config, int64_t num_layers, int64_t vocab_size) {
  config.num_layers = std::min(config.num_layers, num_layers);
  config.layers.resize(config.num_layers);
  config.vocab_size = std::min(config.vocab_size, vocab_size);
  const auto has = [&](LayerKind kind) {
    return std::count(config.layers.begin(), config.layers.end(), kind) > 0;
  };
  if (!has(LayerKind::kMamba1)) config.mamba1.reset();
  if (!has(LayerKind::kMamba2)) config.mamba2.reset();
  return config;
}

Checkpoint SyntheticCheckpoint(const ModelConfig& config) {
  std::map<std::string, std::vector<int64_t>> shapes;
  const auto add = [&](const std::vector<ModelTensor>& tensors) {
    for (const ModelTensor& tensor : tensors) shapes[tensor.name] = tensor.shape;
  };
  add(GlobalTensors(config));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) add(LayerTensors(config, layer));
  return Checkpoint::Synthetic(std::move(shapes), kSeed);
}

}  // namespace krait
