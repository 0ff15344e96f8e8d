#include "worker/models/model_config.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/gguf_reader.h"
#include "common/json.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// Products of any three of these fit 63 bits with room to spare.
struct IntRange {
  int64_t min;
  int64_t max;
};
constexpr IntRange kHiddenRange = {1, 1 << 16};
constexpr IntRange kLayersRange = {1, 512};
constexpr IntRange kHeadsRange = {1, 1024};
constexpr IntRange kHeadDimRange = {2, 1024};
constexpr IntRange kIntermediateRange = {1, 1 << 18};
constexpr IntRange kVocabRange = {1, 1 << 21};
constexpr IntRange kContextRange = {1, 1 << 24};

absl::Status BadField(const std::string& file, const std::string& field,
                      const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", field, ": ", reason));
}

absl::Status CheckRange(const std::string& file, const std::string& field, int64_t value,
                        IntRange range) {
  if (value >= range.min && value <= range.max) return absl::OkStatus();
  return BadField(file, field,
                  absl::StrCat(value, " is outside [", range.min, ", ", range.max, "]"));
}

// config.json of a Hugging Face folder.
class HuggingFaceSource {
 public:
  static absl::StatusOr<HuggingFaceSource> Open(const std::string& path) {
    HuggingFaceSource source;
    source.path_ = path;
    ASSIGN_OR_RETURN(source.root_, ReadJsonFile(path));
    if (!source.root_.is_object()) return BadField(path, "document", "no JSON object");
    return source;
  }

  const std::string& file() const { return path_; }
  // A field that is absent or null, as exporters write "none".
  bool Has(const char* field) const {
    const JsonValue* value = root_.Find(field);
    return value != nullptr && !value->is_null();
  }
  const JsonValue* Find(const char* field) const { return root_.Find(field); }

  absl::StatusOr<int64_t> Int(const char* field, IntRange range) const {
    ASSIGN_OR_RETURN(const int64_t value, AtFile(root_.GetInt(field)));
    RETURN_IF_ERROR(CheckRange(path_, field, value, range));
    return value;
  }
  absl::StatusOr<int64_t> IntOr(const char* field, IntRange range, int64_t otherwise) const {
    if (!Has(field)) return otherwise;
    return Int(field, range);
  }
  absl::StatusOr<double> Double(const char* field) const { return AtFile(root_.GetDouble(field)); }
  absl::StatusOr<bool> BoolOr(const char* field, bool otherwise) const {
    if (!Has(field)) return otherwise;
    return AtFile(root_.GetBool(field));
  }

 private:
  template <typename T>
  absl::StatusOr<T> AtFile(absl::StatusOr<T> value) const {
    if (value.ok()) return value;
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", value.status().message()));
  }

  std::string path_;
  JsonValue root_;
};

std::string Shown(const JsonValue& value) {
  if (value.is_string()) return QuoteJson(value.as_string());
  if (value.is_bool()) return value.as_bool() ? "true" : "false";
  if (value.is_number()) return absl::StrCat(value.as_double());
  if (value.is_object()) {
    for (const char* key : {"rope_type", "type", "quant_method"}) {
      const JsonValue* kind = value.Find(key);
      if (kind != nullptr && kind->is_string()) {
        return absl::StrCat("{", QuoteJson(key), ": ", QuoteJson(kind->as_string()), ", ...}");
      }
    }
  }
  return value.is_object() ? "an object" : "a list";
}

// Fields that change the computation in ways this build does not have.
absl::Status RefuseUnsupported(const HuggingFaceSource& source) {
  for (const char* field :
       {"rope_scaling", "sliding_window", "quantization_config", "num_local_experts", "auto_map"}) {
    if (!source.Has(field)) continue;
    return BadField(source.file(), field,
                    absl::StrCat(Shown(*source.Find(field)), " is not supported"));
  }
  for (const char* field : {"attention_bias", "mlp_bias"}) {
    ASSIGN_OR_RETURN(const bool value, source.BoolOr(field, false));
    if (value) return BadField(source.file(), field, "true is not supported");
  }
  return absl::OkStatus();
}

// Newer exporters keep the base in rope_parameters {"rope_type": "default", "rope_theta": ...}.
absl::StatusOr<double> RopeTheta(const HuggingFaceSource& source) {
  if (!source.Has("rope_parameters")) {
    return source.Has("rope_theta") ? source.Double("rope_theta") : 10000.0;
  }
  const JsonValue& parameters = *source.Find("rope_parameters");
  const JsonValue* type = parameters.Find("rope_type");
  if (type != nullptr && (!type->is_string() || type->as_string() != "default")) {
    return BadField(source.file(), "rope_parameters",
                    absl::StrCat(Shown(parameters), " is not supported"));
  }
  const absl::StatusOr<double> theta = parameters.GetDouble("rope_theta");
  if (theta.ok()) return theta;
  return BadField(source.file(), "rope_parameters", std::string(theta.status().message()));
}

absl::StatusOr<std::string> Architecture(const HuggingFaceSource& source) {
  const JsonValue* list = source.Find("architectures");
  if (list == nullptr || !list->is_array() || list->as_array().size() != 1 ||
      !list->as_array()[0].is_string()) {
    return BadField(source.file(), "architectures", "a list of one name wanted");
  }
  const std::string& name = list->as_array()[0].as_string();
  if (name == "LlamaForCausalLM") return name;
  return BadField(source.file(), "architectures",
                  absl::StrCat(QuoteJson(name), " is not supported; \"LlamaForCausalLM\" is"));
}

absl::Status CheckActivation(const HuggingFaceSource& source) {
  const JsonValue* activation = source.Find("hidden_act");
  if (activation == nullptr) return absl::OkStatus();
  if (activation->is_string() && activation->as_string() == "silu") return absl::OkStatus();
  return BadField(source.file(), "hidden_act",
                  absl::StrCat(Shown(*activation), " is not supported; \"silu\" is"));
}

absl::StatusOr<ModelConfig> FromHuggingFace(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(const HuggingFaceSource source,
                   HuggingFaceSource::Open(checkpoint.files().config_json));
  ModelConfig config;
  ASSIGN_OR_RETURN(config.architecture, Architecture(source));
  RETURN_IF_ERROR(RefuseUnsupported(source));
  RETURN_IF_ERROR(CheckActivation(source));
  ASSIGN_OR_RETURN(config.hidden_size, source.Int("hidden_size", kHiddenRange));
  ASSIGN_OR_RETURN(config.num_layers, source.Int("num_hidden_layers", kLayersRange));
  ASSIGN_OR_RETURN(config.num_heads, source.Int("num_attention_heads", kHeadsRange));
  ASSIGN_OR_RETURN(config.num_kv_heads,
                   source.IntOr("num_key_value_heads", kHeadsRange, config.num_heads));
  ASSIGN_OR_RETURN(config.head_dim,
                   source.IntOr("head_dim", kHeadDimRange, config.hidden_size / config.num_heads));
  ASSIGN_OR_RETURN(config.intermediate_size, source.Int("intermediate_size", kIntermediateRange));
  ASSIGN_OR_RETURN(config.vocab_size, source.Int("vocab_size", kVocabRange));
  ASSIGN_OR_RETURN(config.max_context_tokens,
                   source.IntOr("max_position_embeddings", kContextRange, 2048));
  ASSIGN_OR_RETURN(const double eps, source.Double("rms_norm_eps"));
  ASSIGN_OR_RETURN(const double theta, RopeTheta(source));
  config.rms_norm_eps = static_cast<float>(eps);
  config.rope_theta = static_cast<float>(theta);
  ASSIGN_OR_RETURN(config.tie_word_embeddings, source.BoolOr("tie_word_embeddings", false));
  return config;
}

absl::StatusOr<int64_t> GgufInt(const GgufHeader& header, const std::string& key, IntRange range) {
  ASSIGN_OR_RETURN(const int64_t value, header.GetInt(key));
  RETURN_IF_ERROR(CheckRange(header.path(), key, value, range));
  return value;
}

absl::Status RefuseUnsupported(const GgufHeader& header) {
  for (const char* key : {"llama.attention.sliding_window", "llama.expert_count"}) {
    if (!header.Has(key)) continue;
    ASSIGN_OR_RETURN(const int64_t value, header.GetInt(key));
    if (value != 0) {
      return BadField(header.path(), key, absl::StrCat(value, " is not supported"));
    }
  }
  const std::string scaling = "llama.rope.scaling.type";
  if (header.Has(scaling)) {
    const absl::StatusOr<std::string> type = header.GetString(scaling);
    if (!type.ok()) return type.status();
    if (*type != "none") return BadField(header.path(), scaling, *type + " is not supported");
  }
  for (const GgufTensorInfo& tensor : header.tensors()) {
    if (tensor.name != "rope_freqs.weight") continue;
    return absl::InvalidArgumentError(
        absl::StrCat(header.path(), ": tensor rope_freqs.weight: RoPE scaling is not supported"));
  }
  return absl::OkStatus();
}

absl::Status CheckRopeDimension(const GgufHeader& header, int64_t head_dim) {
  const std::string key = "llama.rope.dimension_count";
  if (!header.Has(key)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t value, header.GetInt(key));
  if (value == head_dim) return absl::OkStatus();
  return BadField(
      header.path(), key,
      absl::StrCat(value, " is not the head size, ", head_dim, ": partial RoPE is not supported"));
}

absl::StatusOr<int64_t> VocabSize(const GgufHeader& header, const Checkpoint& checkpoint) {
  if (header.Has("llama.vocab_size")) return GgufInt(header, "llama.vocab_size", kVocabRange);
  const auto embedding = checkpoint.tensors().find(kEmbeddingName);
  const int64_t rows = embedding == checkpoint.tensors().end() ? 0 : embedding->second.num_rows();
  RETURN_IF_ERROR(CheckRange(header.path(), "rows of tensor token_embd.weight", rows, kVocabRange));
  return rows;
}

absl::StatusOr<ModelConfig> FromGguf(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(const GgufHeader header, GgufHeader::Read(checkpoint.files().gguf));
  RETURN_IF_ERROR(RefuseUnsupported(header));
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";  // what GgufNaming lets pass
  ASSIGN_OR_RETURN(config.hidden_size, GgufInt(header, "llama.embedding_length", kHiddenRange));
  ASSIGN_OR_RETURN(config.num_layers, GgufInt(header, "llama.block_count", kLayersRange));
  ASSIGN_OR_RETURN(config.num_heads, GgufInt(header, "llama.attention.head_count", kHeadsRange));
  config.num_kv_heads = config.num_heads;
  if (header.Has("llama.attention.head_count_kv")) {
    ASSIGN_OR_RETURN(config.num_kv_heads,
                     GgufInt(header, "llama.attention.head_count_kv", kHeadsRange));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  if (header.Has("llama.attention.key_length")) {
    ASSIGN_OR_RETURN(config.head_dim, GgufInt(header, "llama.attention.key_length", kHeadDimRange));
  }
  RETURN_IF_ERROR(CheckRopeDimension(header, config.head_dim));
  ASSIGN_OR_RETURN(config.intermediate_size,
                   GgufInt(header, "llama.feed_forward_length", kIntermediateRange));
  ASSIGN_OR_RETURN(config.vocab_size, VocabSize(header, checkpoint));
  ASSIGN_OR_RETURN(config.max_context_tokens,
                   GgufInt(header, "llama.context_length", kContextRange));
  ASSIGN_OR_RETURN(const double eps, header.GetFloat("llama.attention.layer_norm_rms_epsilon"));
  double theta = 10000.0;
  if (header.Has("llama.rope.freq_base")) {
    ASSIGN_OR_RETURN(theta, header.GetFloat("llama.rope.freq_base"));
  }
  config.rms_norm_eps = static_cast<float>(eps);
  config.rope_theta = static_cast<float>(theta);
  config.tie_word_embeddings = !checkpoint.Has(kHeadName);
  return config;
}

// What no single field's range can say.
absl::Status CheckTogether(const std::string& file, const ModelConfig& config) {
  if (config.num_heads % config.num_kv_heads != 0) {
    return BadField(
        file, "number of heads",
        absl::StrCat(config.num_heads, " is not a multiple of ", config.num_kv_heads, " KV heads"));
  }
  RETURN_IF_ERROR(CheckRange(file, "head size", config.head_dim, kHeadDimRange));
  if (config.head_dim % 2 != 0) {
    return BadField(file, "head size", absl::StrCat(config.head_dim, " is odd"));
  }
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps <= 0.1f)) {
    return BadField(file, "RMS norm epsilon",
                    absl::StrCat(config.rms_norm_eps, " is outside (0, 0.1]"));
  }
  if (!(config.rope_theta >= 1 && config.rope_theta <= 1e12f)) {
    return BadField(file, "RoPE base", absl::StrCat(config.rope_theta, " is outside [1, 1e12]"));
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

absl::StatusOr<ModelConfig> ModelConfig::Load(const Checkpoint& checkpoint) {
  const ModelFiles& files = checkpoint.files();
  ASSIGN_OR_RETURN(ModelConfig config,
                   files.is_gguf() ? FromGguf(checkpoint) : FromHuggingFace(checkpoint));
  const std::string& file = files.is_gguf() ? files.gguf : files.config_json;
  RETURN_IF_ERROR(CheckTogether(file, config));
  RETURN_IF_ERROR(CheckHead(file, checkpoint, config));
  config.layers.assign(config.num_layers, LayerKind::kAttention);
  return config;
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
