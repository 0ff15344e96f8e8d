#include "worker/models/hugging_face_config.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/json.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/models/hugging_face_rope.h"
#include "worker/models/hugging_face_source.h"

namespace krait {
namespace {

// What a family's files say of sliding windows: nothing; sliding_window alone; or a number that
// counts only if use_sliding_window is on (then for some of the layers: not run).
enum class WindowFields { kNone, kNumber, kSwitchedNumber };
constexpr int64_t kDefaultWindow = 4096;  // of kNumber, where the field is absent

// How a family's config.json differs from the others'.
struct Family {
  const char* architecture;
  const char* model_type;
  WindowFields window;
  bool has_bias_fields;  // attention_bias, mlp_bias
  bool has_qkv_bias;     // always
};
constexpr Family kFamilies[] = {
    {"LlamaForCausalLM", "llama", WindowFields::kNone, true, false},
    {"MistralForCausalLM", "mistral", WindowFields::kNumber, false, false},
    {"Qwen2ForCausalLM", "qwen2", WindowFields::kSwitchedNumber, false, true},
};

absl::StatusOr<const Family*> ReadFamily(const HuggingFaceSource& source) {
  const JsonValue* list = source.Find("architectures");
  if (list == nullptr || !list->is_array() || list->as_array().size() != 1 ||
      !list->as_array()[0].is_string()) {
    return source.Bad("architectures", "a list of one name wanted");
  }
  const std::string& name = list->as_array()[0].as_string();
  std::string known;
  for (const Family& family : kFamilies) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", family.architecture);
    if (name != family.architecture) continue;
    if (!source.Has("model_type")) return &family;
    ASSIGN_OR_RETURN(const std::string type, source.String("model_type"));
    if (type == family.model_type) return &family;
    return source.Bad("model_type", absl::StrCat(QuoteJson(type), " is not that of ", name));
  }
  return source.Bad("architectures",
                    absl::StrCat(QuoteJson(name), " is not supported; ", known, " are"));
}

// Fields that change the computation in ways this build does not have.
absl::Status RefuseUnsupported(const HuggingFaceSource& source) {
  for (const char* field : {"quantization_config", "num_local_experts", "auto_map"}) {
    if (source.Has(field)) return source.Unsupported(field);
  }
  if (source.Has("hidden_act")) {
    ASSIGN_OR_RETURN(const std::string activation, source.String("hidden_act"));
    if (activation != "silu") return source.Unsupported("hidden_act", "\"silu\" is");
  }
  if (source.Has("partial_rotary_factor")) {
    ASSIGN_OR_RETURN(const double factor, source.Double("partial_rotary_factor"));
    if (factor != 1) return source.Unsupported("partial_rotary_factor", "1 is");
  }
  return absl::OkStatus();
}

absl::Status ReadBiases(const HuggingFaceSource& source, const Family& family,
                        ModelConfig& config) {
  ASSIGN_OR_RETURN(const bool attention, source.BoolOr("attention_bias", false));
  ASSIGN_OR_RETURN(config.mlp_bias, source.BoolOr("mlp_bias", false));
  if (!family.has_bias_fields) {
    if (attention) return source.Unsupported("attention_bias");
    if (config.mlp_bias) return source.Unsupported("mlp_bias");
  }
  config.qkv_bias = attention || family.has_qkv_bias;
  config.attention_output_bias = attention;
  return absl::OkStatus();
}

// Newer exporters name each layer's attention; layers that differ are not run.
absl::Status CheckLayerTypes(const HuggingFaceSource& source, int64_t window) {
  if (!source.Has("layer_types")) return absl::OkStatus();
  const JsonValue& types = *source.Find("layer_types");
  const std::string wanted = window == 0 ? "full_attention" : "sliding_attention";
  if (!types.is_array()) return source.Bad("layer_types", "a list wanted");
  const JsonArray& list = types.as_array();
  const auto other = std::find_if(list.begin(), list.end(), [&](const JsonValue& type) {
    return !type.is_string() || type.as_string() != wanted;
  });
  if (other == list.end()) return absl::OkStatus();
  return source.Bad("layer_types", absl::StrCat("entry ", other - list.begin(), " is not ",
                                                QuoteJson(wanted), ": not supported"));
}

absl::StatusOr<int64_t> ReadWindow(const HuggingFaceSource& source, const Family& family) {
  const bool has_number = source.Has("sliding_window");
  switch (family.window) {
    case WindowFields::kNone:
      if (has_number) return source.Unsupported("sliding_window", "MistralForCausalLM has one");
      return 0;
    case WindowFields::kNumber:
      if (source.Find("sliding_window") == nullptr) return kDefaultWindow;
      if (!has_number) return 0;  // null
      return source.Int("sliding_window", kContextRange);
    case WindowFields::kSwitchedNumber: {
      ASSIGN_OR_RETURN(const bool on, source.BoolOr("use_sliding_window", false));
      if (on) return source.Unsupported("use_sliding_window");
      return 0;
    }
  }
  return 0;
}

// Only Llama's files leave it out for "as many as heads"; elsewhere the default is a number.
absl::StatusOr<int64_t> ReadKvHeads(const HuggingFaceSource& source, const ModelConfig& config) {
  if (config.architecture != "LlamaForCausalLM") {
    return source.Int("num_key_value_heads", kHeadsRange);
  }
  return source.IntOr("num_key_value_heads", kHeadsRange, config.num_heads);
}

// Position interpolation serves `factor` times the positions that the file names.
int64_t ExtendedContext(int64_t positions, const RopeScaling& scaling) {
  const auto* linear = std::get_if<LinearRopeScaling>(&scaling);
  if (linear == nullptr) return positions;
  const double extended = static_cast<double>(positions) * linear->factor;
  return static_cast<int64_t>(std::min<double>(extended, kContextRange.max));
}

}  // namespace

const char* HuggingFaceModelType(const std::string& architecture) {
  const auto* family =
      std::find_if(std::begin(kFamilies), std::end(kFamilies),
                   [&](const Family& each) { return architecture == each.architecture; });
  CHECK(family != std::end(kFamilies)) << architecture;
  return family->model_type;
}

absl::StatusOr<ModelConfig> ReadHuggingFaceConfig(const std::string& path, bool scale_rope) {
  ASSIGN_OR_RETURN(const HuggingFaceSource source, HuggingFaceSource::Open(path));
  ASSIGN_OR_RETURN(const Family* family, ReadFamily(source));
  RETURN_IF_ERROR(RefuseUnsupported(source));
  ModelConfig config;
  config.architecture = family->architecture;
  RETURN_IF_ERROR(ReadBiases(source, *family, config));
  ASSIGN_OR_RETURN(config.sliding_window, ReadWindow(source, *family));
  RETURN_IF_ERROR(CheckLayerTypes(source, config.sliding_window));
  ASSIGN_OR_RETURN(config.hidden_size, source.Int("hidden_size", kHiddenRange));
  ASSIGN_OR_RETURN(config.num_layers, source.Int("num_hidden_layers", kLayersRange));
  ASSIGN_OR_RETURN(config.num_heads, source.Int("num_attention_heads", kHeadsRange));
  ASSIGN_OR_RETURN(config.num_kv_heads, ReadKvHeads(source, config));
  ASSIGN_OR_RETURN(config.head_dim,
                   source.IntOr("head_dim", kHeadDimRange, config.hidden_size / config.num_heads));
  ASSIGN_OR_RETURN(config.intermediate_size, source.Int("intermediate_size", kIntermediateRange));
  ASSIGN_OR_RETURN(config.vocab_size, source.Int("vocab_size", kVocabRange));
  ASSIGN_OR_RETURN(const int64_t positions,
                   source.IntOr("max_position_embeddings", kContextRange, 2048));
  ASSIGN_OR_RETURN(const double eps, source.Double("rms_norm_eps"));
  config.rms_norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(config.rope, ReadHuggingFaceRope(source, config.head_dim, scale_rope));
  config.max_context_tokens = ExtendedContext(positions, config.rope.scaling);
  ASSIGN_OR_RETURN(config.tie_word_embeddings, source.BoolOr("tie_word_embeddings", false));
  return config;
}

}  // namespace krait
