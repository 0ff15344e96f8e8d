#include "worker/models/model_config.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/models/config_field.h"
#include "worker/models/gguf_config.h"
#include "worker/models/hugging_face_config.h"
#include "worker/models/hybrid_layers.h"

namespace krait {
namespace {

// What no single field's range can say.
absl::Status CheckTogether(const std::string& file, const ModelConfig& config) {
  if (config.num_heads % config.num_kv_heads != 0) {
    return BadField(
        file, "number of heads",
        absl::StrCat(config.num_heads, " is not a multiple of ", config.num_kv_heads, " KV heads"));
  }
  if (config.num_heads / config.num_kv_heads > kMaxAttentionGroup) {
    return BadField(file, "number of heads",
                    absl::StrCat(config.num_heads, " over ", config.num_kv_heads,
                                 " KV heads: at most ", kMaxAttentionGroup, " may share one"));
  }
  RETURN_IF_ERROR(CheckRange(file, "head size", config.head_dim, kHeadDimRange));
  if (config.head_dim % kAttentionHeadDimUnit != 0) {
    return BadField(file, "head size",
                    absl::StrCat(config.head_dim, " is not a multiple of ", kAttentionHeadDimUnit));
  }
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps <= 0.1f)) {
    return BadField(file, "RMS norm epsilon",
                    absl::StrCat(config.rms_norm_eps, " is outside (0, 0.1]"));
  }
  return absl::OkStatus();
}

// Combinations that no architecture we know has, so that nobody could say what they mean.
absl::Status CheckBiases(const std::string& file, const ModelConfig& config) {
  if (config.qkv_bias ? !config.attention_output_bias && config.mlp_bias
                      : config.attention_output_bias) {
    return BadField(file, "biases", "of q, k and v alone, or with those of o, wanted");
  }
  if (config.sliding_window != 0 && (config.qkv_bias || config.mlp_bias)) {
    return BadField(file, "sliding window", "is not supported together with biases");
  }
  return absl::OkStatus();
}

absl::Status CheckHead(const std::string& file, const Checkpoint& checkpoint, ModelConfig& config) {
  if (config.tie_word_embeddings && checkpoint.Has(kHeadName)) {
    return BadField(file, "tie_word_embeddings",
                    absl::StrCat("true, but tensor ", kHeadName, " is stored too"));
  }
  const auto map = checkpoint.tensors().find(kDraftTokenMapName);
  if (map == checkpoint.tensors().end()) return absl::OkStatus();
  const int64_t rows = map->second.num_elements();
  if (config.tie_word_embeddings || map->second.shape.size() != 1 || rows < 1 ||
      rows > config.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        checkpoint.file_paths()[map->second.file], ": tensor ", kDraftTokenMapName,
        ": an untied head and 1 to ", config.vocab_size, " ids in one dimension wanted"));
  }
  config.draft_vocab_size = rows;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ModelConfig::Load(const Checkpoint& checkpoint, RopeScalingRule rule) {
  const ModelFiles& files = checkpoint.files();
  const bool scale_rope = rule == RopeScalingRule::kApply ||
                          (rule == RopeScalingRule::kByNames && !HasFusedAttention(checkpoint));
  ASSIGN_OR_RETURN(ModelConfig config, files.is_gguf()
                                           ? ReadGgufConfig(checkpoint)
                                           : ReadHuggingFaceConfig(files.config_json, scale_rope));
  const std::string& file = files.is_gguf() ? files.gguf : files.config_json;
  RETURN_IF_ERROR(CheckTogether(file, config));
  RETURN_IF_ERROR(CheckBiases(file, config));
  RETURN_IF_ERROR(CheckHead(file, checkpoint, config));
  config.layers.assign(config.num_layers, LayerKind::kAttention);
  RETURN_IF_ERROR(LoadHybridLayers(checkpoint, config));
  return config;
}

int ModelConfig::num_attention_layers() const {
  return static_cast<int>(std::count(layers.begin(), layers.end(), LayerKind::kAttention));
}

absl::StatusOr<std::vector<int32_t>> ModelConfig::LoadDraftTokenMap(
    const Checkpoint& checkpoint) const {
  if (!draft_vocab_size) return std::vector<int32_t>();
  ASSIGN_OR_RETURN(const std::vector<int64_t> ids, checkpoint.ReadIntegers(kDraftTokenMapName));
  const int file = checkpoint.tensors().find(kDraftTokenMapName)->second.file;
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t least = i == 0 ? 0 : ids[i - 1] + 1;
    if (ids[i] >= least && ids[i] < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(checkpoint.file_paths()[file], ": tensor ", kDraftTokenMapName, ": entry ", i,
                     " is ", ids[i], ", ", least, " to ", vocab_size - 1, " wanted"));
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

}  // namespace krait
