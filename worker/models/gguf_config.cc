#include "worker/models/gguf_config.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/gguf_reader.h"
#include "common/status_macros.h"
#include "worker/models/config_field.h"

namespace krait {
namespace {

constexpr char kScalingType[] = "llama.rope.scaling.type";
constexpr char kScalingFactor[] = "llama.rope.scaling.factor";
constexpr char kScaleLinear[] = "llama.rope.scale_linear";  // of old files
constexpr char kWindow[] = "llama.attention.sliding_window";

absl::StatusOr<int64_t> Int(const GgufHeader& header, const std::string& key, IntRange range) {
  ASSIGN_OR_RETURN(const int64_t value, header.GetInt(key));
  RETURN_IF_ERROR(CheckRange(header.path(), key, value, range));
  return value;
}

absl::StatusOr<int64_t> IntOr(const GgufHeader& header, const std::string& key, IntRange range,
                              int64_t otherwise) {
  if (!header.Has(key)) return otherwise;
  return Int(header, key, range);
}

absl::StatusOr<float> Float(const GgufHeader& header, const std::string& key, FloatRange range) {
  ASSIGN_OR_RETURN(const double value, header.GetFloat(key));
  RETURN_IF_ERROR(CheckRange(header.path(), key, value, range));
  return static_cast<float>(value);
}

absl::Status RefuseExperts(const GgufHeader& header) {
  const std::string key = "llama.expert_count";
  ASSIGN_OR_RETURN(const int64_t experts, IntOr(header, key, {0, INT64_MAX}, 0));
  if (experts == 0) return absl::OkStatus();
  return BadField(header.path(), key, absl::StrCat(experts, " is not supported"));
}

// A key about positions that is not read would be a function that is not computed.
absl::Status RefuseUnknownRopeKeys(const GgufHeader& header) {
  for (const auto& [key, value] : header.metadata()) {
    if (!absl::StartsWith(key, "llama.rope.")) continue;
    const std::string_view name = std::string_view(key).substr(sizeof("llama.rope.") - 1);
    constexpr std::string_view kKnown[] = {"dimension_count",  "freq_base",
                                           "scaling.type",     "scaling.factor",
                                           "scale_linear",     "scaling.original_context_length",
                                           "scaling.finetuned"};
    if (std::find(std::begin(kKnown), std::end(kKnown), name) == std::end(kKnown)) {
      return BadField(header.path(), key, "is not supported");
    }
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

// As llama.cpp reads them: without a type a factor is linear.
absl::StatusOr<RopeScaling> ReadMetadataScaling(const GgufHeader& header) {
  std::string type = "linear";
  if (header.Has(kScalingType)) {
    ASSIGN_OR_RETURN(type, header.GetString(kScalingType));
  }
  if (type == "none") return RopeScaling();
  if (type != "linear") {
    return BadField(header.path(), kScalingType,
                    absl::StrCat("\"", type, "\" is not supported; \"none\" and \"linear\" are"));
  }
  for (const char* key : {kScalingFactor, kScaleLinear}) {
    if (!header.Has(key)) continue;
    ASSIGN_OR_RETURN(const float factor, Float(header, key, kRopeFactorRange));
    return factor == 1 ? RopeScaling() : LinearRopeScaling{factor};
  }
  return RopeScaling();
}

absl::StatusOr<RopeScaling> ReadDivisors(const Checkpoint& checkpoint, int64_t head_dim) {
  RopeDivisors scaling;
  RETURN_IF_ERROR(checkpoint.Expect(kGgufRopeDivisorsName, {head_dim / 2}));
  scaling.divisors.resize(head_dim / 2);
  RETURN_IF_ERROR(
      checkpoint.ReadRows(kGgufRopeDivisorsName, 0, head_dim / 2, scaling.divisors.data()));
  for (size_t i = 0; i < scaling.divisors.size(); ++i) {
    RETURN_IF_ERROR(CheckRange(checkpoint.files().gguf,
                               absl::StrCat("tensor ", kGgufRopeDivisorsName, ": entry ", i),
                               scaling.divisors[i], kRopeDivisorRange));
  }
  return scaling;
}

absl::StatusOr<RopeConfig> ReadRope(const GgufHeader& header, const Checkpoint& checkpoint,
                                    int64_t head_dim) {
  RETURN_IF_ERROR(RefuseUnknownRopeKeys(header));
  RETURN_IF_ERROR(CheckRopeDimension(header, head_dim));
  RopeConfig rope;
  if (header.Has("llama.rope.freq_base")) {
    ASSIGN_OR_RETURN(rope.theta, Float(header, "llama.rope.freq_base", kRopeThetaRange));
  }
  ASSIGN_OR_RETURN(rope.scaling, ReadMetadataScaling(header));
  if (!checkpoint.Has(kGgufRopeDivisorsName)) return rope;
  if (rope.scaling != RopeScaling()) {
    return BadField(header.path(), absl::StrCat("tensor ", kGgufRopeDivisorsName),
                    "stands beside linear scaling in the metadata; one of them wanted");
  }
  ASSIGN_OR_RETURN(rope.scaling, ReadDivisors(checkpoint, head_dim));
  return rope;
}

absl::StatusOr<int64_t> VocabSize(const GgufHeader& header, const Checkpoint& checkpoint) {
  if (header.Has("llama.vocab_size")) return Int(header, "llama.vocab_size", kVocabRange);
  const auto embedding = checkpoint.tensors().find(kEmbeddingName);
  const int64_t rows = embedding == checkpoint.tensors().end() ? 0 : embedding->second.num_rows();
  RETURN_IF_ERROR(CheckRange(header.path(), "rows of tensor token_embd.weight", rows, kVocabRange));
  return rows;
}

// The first layer's tensors announce the biases of all.
void ReadBiases(const Checkpoint& checkpoint, ModelConfig& config) {
  const std::string layer = "model.layers.0.";
  config.qkv_bias = checkpoint.Has(layer + "self_attn.q_proj.bias");
  config.attention_output_bias = checkpoint.Has(layer + "self_attn.o_proj.bias");
  config.mlp_bias = checkpoint.Has(layer + "mlp.gate_proj.bias");
}

// The Hugging Face architecture that computes the same: GGUF calls all of them llama.
const char* ArchitectureOf(const ModelConfig& config) {
  if (config.sliding_window != 0) return "MistralForCausalLM";
  return config.qkv_bias && !config.attention_output_bias ? "Qwen2ForCausalLM" : "LlamaForCausalLM";
}

absl::Status ReadHeads(const GgufHeader& header, ModelConfig& config) {
  ASSIGN_OR_RETURN(config.num_heads, Int(header, "llama.attention.head_count", kHeadsRange));
  ASSIGN_OR_RETURN(config.num_kv_heads,
                   IntOr(header, "llama.attention.head_count_kv", kHeadsRange, config.num_heads));
  ASSIGN_OR_RETURN(config.head_dim, IntOr(header, "llama.attention.key_length", kHeadDimRange,
                                          config.hidden_size / config.num_heads));
  // 0 is how some exporters write "none".
  ASSIGN_OR_RETURN(config.sliding_window, IntOr(header, kWindow, {0, kContextRange.max}, 0));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(const GgufHeader header, GgufHeader::Read(checkpoint.files().gguf));
  RETURN_IF_ERROR(RefuseExperts(header));
  ModelConfig config;
  ASSIGN_OR_RETURN(config.hidden_size, Int(header, "llama.embedding_length", kHiddenRange));
  ASSIGN_OR_RETURN(config.num_layers, Int(header, "llama.block_count", kLayersRange));
  RETURN_IF_ERROR(ReadHeads(header, config));
  ASSIGN_OR_RETURN(config.intermediate_size,
                   Int(header, "llama.feed_forward_length", kIntermediateRange));
  ASSIGN_OR_RETURN(config.vocab_size, VocabSize(header, checkpoint));
  ASSIGN_OR_RETURN(config.max_context_tokens, Int(header, "llama.context_length", kContextRange));
  ASSIGN_OR_RETURN(const double eps, header.GetFloat("llama.attention.layer_norm_rms_epsilon"));
  config.rms_norm_eps = static_cast<float>(eps);
  RETURN_IF_ERROR(CheckRange(header.path(), "head size", config.head_dim, kHeadDimRange));
  ASSIGN_OR_RETURN(config.rope, ReadRope(header, checkpoint, config.head_dim));
  config.tie_word_embeddings = !checkpoint.Has(kHeadName);
  ReadBiases(checkpoint, config);
  config.architecture = ArchitectureOf(config);
  return config;
}

}  // namespace krait
