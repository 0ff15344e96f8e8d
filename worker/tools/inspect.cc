#include "worker/tools/inspect.h"

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/json_document.h"
#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/models/model_config.h"
#include "worker/models/model_tensors.h"
#include "worker/tools/engine_tool.h"
#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

struct Amount {
  int64_t tensors = 0;
  int64_t bytes = 0;
};

struct Summary {
  ModelConfig config;
  Vocabulary vocabulary;
  std::vector<std::string> files;
  std::map<std::string, Amount> by_type;
  Amount total;
  int64_t parameters = 0;
};

absl::StatusOr<Summary> Summarize(const std::string& path) {
  Summary summary;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(path));
  ASSIGN_OR_RETURN(summary.config, ModelConfig::Load(checkpoint));
  RETURN_IF_ERROR(CheckModelTensors(checkpoint, summary.config));
  ASSIGN_OR_RETURN(summary.vocabulary, Vocabulary::Load(path));
  summary.files = checkpoint.file_paths();
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    Amount& amount = summary.by_type[tensor.type->name];
    for (Amount* each : {&amount, &summary.total}) {
      each->tensors += 1;
      each->bytes += static_cast<int64_t>(tensor.num_bytes);
    }
    if (!tensor.type->is_integer) summary.parameters += tensor.num_elements();
  }
  return summary;
}

int64_t CountLayers(const ModelConfig& config, LayerKind kind) {
  int64_t count = 0;
  for (LayerKind each : config.layers) count += each == kind ? 1 : 0;
  return count;
}

// Label and value; the value of a JSON field is the same, numbers without quotes.
struct Row {
  const char* label;
  const char* field;
  std::string value;
  bool is_text = false;
};

struct RopeScalingText {
  std::string operator()(std::monostate) const { return "none"; }
  std::string operator()(const LinearRopeScaling& scaling) const {
    return absl::StrCat("linear, factor ", scaling.factor);
  }
  std::string operator()(const Llama3RopeScaling& scaling) const {
    return absl::StrCat("llama3, factor ", scaling.factor, " of ", scaling.original_max_positions,
                        " positions");
  }
  std::string operator()(const RopeDivisors&) const { return "a divisor for each frequency"; }
};

std::string BiasesText(const ModelConfig& config) {
  std::vector<std::string> parts;
  if (config.qkv_bias) parts.push_back("qkv");
  if (config.attention_output_bias) parts.push_back("o");
  if (config.mlp_bias) parts.push_back("mlp");
  return parts.empty() ? "none" : absl::StrJoin(parts, " ");
}

std::vector<Row> Rows(const Summary& summary) {
  const ModelConfig& config = summary.config;
  const Vocabulary& vocabulary = summary.vocabulary;
  std::vector<Row> rows = {
      {"architecture", "architecture", config.architecture, true},
      {"layers", "num_layers", absl::StrCat(config.num_layers)},
      {"attention layers", "num_attention_layers",
       absl::StrCat(CountLayers(config, LayerKind::kAttention))},
      {"hidden size", "hidden_size", absl::StrCat(config.hidden_size)},
      {"query heads", "num_heads", absl::StrCat(config.num_heads)},
      {"KV heads", "num_kv_heads", absl::StrCat(config.num_kv_heads)},
      {"head size", "head_dim", absl::StrCat(config.head_dim)},
      {"MLP size", "intermediate_size", absl::StrCat(config.intermediate_size)},
      {"vocabulary", "vocab_size", absl::StrCat(config.vocab_size)},
      {"head rows", "head_rows", absl::StrCat(config.head_rows())},
      {"head is the embedding", "tie_word_embeddings",
       config.tie_word_embeddings ? "true" : "false"},
      {"context", "max_context_tokens", absl::StrCat(config.max_context_tokens)},
      {"RoPE base", "rope_theta", absl::StrCat(config.rope.theta)},
      {"RoPE scaling", "rope_scaling", std::visit(RopeScalingText(), config.rope.scaling), true},
      {"sliding window", "sliding_window", absl::StrCat(config.sliding_window)},
      {"biases", "biases", BiasesText(config), true},
      {"RMS norm epsilon", "rms_norm_eps", absl::StrCat(config.rms_norm_eps)},
      {"splitting rule", "pre_tokenizer", vocabulary.pre_tokenizer, true},
      {"tokenizer digest", "tokenizer_digest", vocabulary.Digest(), true},
      {"chat template", "has_chat_template", vocabulary.chat_template.empty() ? "false" : "true"},
      {"parameters", "parameters", absl::StrCat(summary.parameters)},
      {"tensors", "num_tensors", absl::StrCat(summary.total.tensors)},
      {"bytes", "bytes", absl::StrCat(summary.total.bytes)},
  };
  return rows;
}

std::string AsTable(const Summary& summary) {
  std::string text;
  for (const Row& row : Rows(summary)) {
    absl::StrAppendFormat(&text, "%-22s %s\n", row.label, row.value);
  }
  for (const auto& [type, amount] : summary.by_type) {
    absl::StrAppendFormat(&text, "  %-20s %d bytes in %d tensors\n", type, amount.bytes,
                          amount.tensors);
  }
  for (const std::string& file : summary.files) absl::StrAppendFormat(&text, "file %s\n", file);
  return text;
}

std::string AsJson(const Summary& summary) {
  nlohmann::ordered_json json;
  for (const Row& row : Rows(summary)) {
    // What is no text is a number or true or false, so it is JSON already.
    json[row.field] =
        row.is_text ? nlohmann::ordered_json(row.value) : nlohmann::ordered_json::parse(row.value);
  }
  json["bytes_by_type"] = nlohmann::ordered_json::object();
  for (const auto& [type, amount] : summary.by_type) {
    json["bytes_by_type"][type] = {{"tensors", amount.tensors}, {"bytes", amount.bytes}};
  }
  json["files"] = summary.files;
  return DumpJson(json) + "\n";
}

}  // namespace

absl::StatusOr<std::string> InspectModel(const std::string& path, bool json) {
  ASSIGN_OR_RETURN(const Summary summary, Summarize(path));
  return json ? AsJson(summary) : AsTable(summary);
}

std::function<int()> DeclareInspect(CLI::App& app) {
  struct Options {
    std::string path;
    bool as_json = false;
  };
  const auto options = std::make_shared<Options>();
  app.add_option("path", options->path,
                 "a .gguf file, or a folder with one or with Hugging Face files")
      ->type_name("PATH")
      ->required();
  app.add_flag("--json", options->as_json, "one JSON document instead of a table");
  return [options] {
    const absl::StatusOr<std::string> text = InspectModel(options->path, options->as_json);
    if (text.ok()) std::fputs(text->c_str(), stdout);
    return EndCommand(text.status());
  };
}

}  // namespace krait
