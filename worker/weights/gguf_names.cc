#include "worker/weights/gguf_names.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

struct NamePair {
  std::string_view gguf;
  std::string_view hugging_face;
};

constexpr NamePair kModelNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// After "blk.N." and "model.layers.N.".
constexpr NamePair kLayerNames[] = {
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
    {"attn_q.bias", "self_attn.q_proj.bias"},
    {"attn_k.bias", "self_attn.k_proj.bias"},
    {"attn_v.bias", "self_attn.v_proj.bias"},
    {"attn_output.bias", "self_attn.o_proj.bias"},
    {"ffn_gate.bias", "mlp.gate_proj.bias"},
    {"ffn_up.bias", "mlp.up_proj.bias"},
    {"ffn_down.bias", "mlp.down_proj.bias"},
};

constexpr std::string_view kGgufLayer = "blk.";
constexpr std::string_view kHuggingFaceLayer = "model.layers.";

struct LayerName {
  std::string_view index;
  std::string_view rest;
};

// "<prefix>12.attn_q.weight" -> {"12", "attn_q.weight"}; empty if it is no such name.
LayerName SplitLayerName(std::string_view name, std::string_view prefix) {
  if (name.substr(0, prefix.size()) != prefix) return {};
  name.remove_prefix(prefix.size());
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos) return {};
  const LayerName layer = {name.substr(0, dot), name.substr(dot + 1)};
  uint32_t number = 0;
  const bool canonical =
      absl::SimpleAtoi(ToAbsl(layer.index), &number) && absl::StrCat(number) == ToAbsl(layer.index);
  return canonical ? layer : LayerName{};
}

std::string HuggingFaceName(std::string_view stored) {
  for (const NamePair& pair : kModelNames) {
    if (pair.gguf == stored) return std::string(pair.hugging_face);
  }
  const LayerName layer = SplitLayerName(stored, kGgufLayer);
  for (const NamePair& pair : kLayerNames) {
    if (pair.gguf != layer.rest) continue;
    return absl::StrCat(ToAbsl(kHuggingFaceLayer), ToAbsl(layer.index), ".",
                        ToAbsl(pair.hugging_face));
  }
  return std::string(stored);
}

absl::StatusOr<int64_t> HeadCount(const GgufHeader& header, const std::string& key) {
  ASSIGN_OR_RETURN(const int64_t count, header.GetInt(key));
  if (count >= 1 && count <= 65536) return count;
  return absl::InvalidArgumentError(
      absl::StrCat(header.path(), ": ", key, ": ", count, " is outside [1, 65536]"));
}

}  // namespace

absl::StatusOr<GgufNaming> GgufNaming::FromHeader(const GgufHeader& header) {
  ASSIGN_OR_RETURN(const std::string architecture, header.GetString("general.architecture"));
  if (architecture != "llama") {
    return absl::InvalidArgumentError(absl::StrCat(header.path(), ": general.architecture: \"",
                                                   architecture,
                                                   "\" is not supported; \"llama\" is"));
  }
  GgufNaming naming;
  const std::string heads_key = "llama.attention.head_count";
  ASSIGN_OR_RETURN(naming.num_heads_, HeadCount(header, heads_key));
  naming.num_kv_heads_ = naming.num_heads_;
  if (header.Has(heads_key + "_kv")) {
    ASSIGN_OR_RETURN(naming.num_kv_heads_, HeadCount(header, heads_key + "_kv"));
  }
  return naming;
}

absl::Status GgufNaming::Apply(CheckpointTensor& tensor) const {
  tensor.name = HuggingFaceName(tensor.stored_name);
  const std::string_view rest = SplitLayerName(tensor.stored_name, kGgufLayer).rest;
  const bool is_q = rest == "attn_q.weight" || rest == "attn_q.bias";
  const bool is_k = rest == "attn_k.weight" || rest == "attn_k.bias";
  if (!is_q && !is_k) return absl::OkStatus();
  const int64_t heads = is_q ? num_heads_ : num_kv_heads_;
  const int64_t rows = tensor.num_rows();
  if (rows % (2 * heads) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows, " rows are not ", heads, " heads of an even size"));
  }
  tensor.interleaved_head_dim = rows / heads;
  return absl::OkStatus();
}

int64_t StoredRow(int64_t row, int64_t head_dim) {
  if (head_dim == 0) return row;
  const int64_t in_head = row % head_dim;
  const int64_t half = head_dim / 2;
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

std::string StoredName(const ModelFiles& files, std::string_view name) {
  if (!files.is_gguf()) return std::string(name);
  for (const NamePair& pair : kModelNames) {
    if (pair.hugging_face == name) return std::string(pair.gguf);
  }
  const LayerName layer = SplitLayerName(name, kHuggingFaceLayer);
  for (const NamePair& pair : kLayerNames) {
    if (pair.hugging_face != layer.rest) continue;
    return absl::StrCat(ToAbsl(kGgufLayer), ToAbsl(layer.index), ".", ToAbsl(pair.gguf));
  }
  return std::string(name);
}

}  // namespace krait
