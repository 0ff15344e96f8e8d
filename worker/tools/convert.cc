#include "worker/tools/convert.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "common/tokenizer_writer.h"
#include "common/vocabulary.h"
#include "worker/models/hugging_face_config.h"
#include "worker/models/model_config.h"
#include "worker/models/model_tensors.h"
#include "worker/tools/overlay.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/safetensors_writer.h"

namespace krait {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPieceElements = 1 << 20;

// A tensor to write: where it comes from and what it is called in the copy.
struct Copy {
  const Checkpoint* source = nullptr;
  std::string from;
  SafetensorsEntry to;
};

absl::Status DiskError(const std::string& path, const std::error_code& error) {
  return absl::UnavailableError(absl::StrCat(path, ": ", error.message()));
}

// The shortest text that reads back as the same float: 1e-05, not 9.99999975e-06.
std::string Shortest(float value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return std::string(buffer, result.ptr);
}

const char* TorchName(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    default:
      return "float32";
  }
}

const char* Text(bool value) { return value ? "true" : "false"; }

// Writes a RoPE scaling as a JSON object that transformers reads too.
struct RopeScalingJson {
  std::string operator()(std::monostate) const { return "null"; }
  std::string operator()(const LinearRopeScaling& scaling) const {
    return absl::StrCat(R"({"rope_type": "linear", "factor": )", Shortest(scaling.factor), "}");
  }
  std::string operator()(const Llama3RopeScaling& scaling) const {
    return absl::StrCat(R"({"rope_type": "llama3", "factor": )", Shortest(scaling.factor),
                        R"(, "low_freq_factor": )", Shortest(scaling.low_freq_factor),
                        R"(, "high_freq_factor": )", Shortest(scaling.high_freq_factor),
                        R"(, "original_max_position_embeddings": )", scaling.original_max_positions,
                        "}");
  }
  // LongRoPE that does the same to short and to long prompts.
  std::string operator()(const RopeDivisors& scaling) const {
    std::vector<std::string> divisors;
    for (const float divisor : scaling.divisors) divisors.push_back(Shortest(divisor));
    const std::string list = absl::StrCat("[", absl::StrJoin(divisors, ", "), "]");
    return absl::StrCat(R"({"rope_type": "longrope", "factor": 1.0, "attention_factor": 1.0)",
                        R"(, "short_factor": )", list, R"(, "long_factor": )", list, "}");
  }
};

// What reads back as `max_context_tokens`: linear scaling multiplies it (hugging_face_config.cc).
int64_t MaxPositionEmbeddings(const ModelConfig& config) {
  const auto* linear = std::get_if<LinearRopeScaling>(&config.rope.scaling);
  if (linear == nullptr) return config.max_context_tokens;
  return static_cast<int64_t>(
      std::ceil(static_cast<double>(config.max_context_tokens) / linear->factor));
}

std::string ConfigJson(const ModelConfig& config, const Vocabulary& vocabulary, DType dtype) {
  std::vector<std::string> fields = {
      absl::StrCat("\"architectures\": [\"", config.architecture, "\"]"),
      absl::StrCat("\"attention_bias\": ", Text(config.attention_output_bias)),
      absl::StrCat("\"head_dim\": ", config.head_dim),
      "\"hidden_act\": \"silu\"",
      absl::StrCat("\"hidden_size\": ", config.hidden_size),
      absl::StrCat("\"intermediate_size\": ", config.intermediate_size),
      absl::StrCat("\"max_position_embeddings\": ", MaxPositionEmbeddings(config)),
      absl::StrCat("\"mlp_bias\": ", Text(config.mlp_bias)),
      absl::StrCat("\"model_type\": \"", HuggingFaceModelType(config.architecture), "\""),
      absl::StrCat("\"num_attention_heads\": ", config.num_heads),
      absl::StrCat("\"num_hidden_layers\": ", config.num_layers),
      absl::StrCat("\"num_key_value_heads\": ", config.num_kv_heads),
      absl::StrCat("\"rms_norm_eps\": ", Shortest(config.rms_norm_eps)),
      absl::StrCat("\"rope_scaling\": ", std::visit(RopeScalingJson(), config.rope.scaling)),
      absl::StrCat("\"rope_theta\": ", Shortest(config.rope.theta)),
      absl::StrCat("\"sliding_window\": ",
                   config.sliding_window == 0 ? "null" : absl::StrCat(config.sliding_window)),
      absl::StrCat("\"tie_word_embeddings\": ", Text(config.tie_word_embeddings)),
      absl::StrCat("\"torch_dtype\": \"", TorchName(dtype), "\""),
      absl::StrCat("\"vocab_size\": ", config.vocab_size),
  };
  if (vocabulary.bos_id) fields.push_back(absl::StrCat("\"bos_token_id\": ", *vocabulary.bos_id));
  if (!vocabulary.eos_ids.empty()) {
    fields.push_back(
        absl::StrCat("\"eos_token_id\": [", absl::StrJoin(vocabulary.eos_ids, ", "), "]"));
  }
  if (vocabulary.pad_id) fields.push_back(absl::StrCat("\"pad_token_id\": ", *vocabulary.pad_id));
  return absl::StrCat("{\n  ", absl::StrJoin(fields, ",\n  "), "\n}\n");
}

absl::Status CheckLayers(const std::vector<int64_t>& layers, int64_t num_layers) {
  if (layers.empty()) return absl::OutOfRangeError("no layers are left");
  for (size_t i = 0; i < layers.size(); ++i) {
    const int64_t least = i == 0 ? 0 : layers[i - 1] + 1;
    if (layers[i] >= least && layers[i] < num_layers) continue;
    return absl::OutOfRangeError(absl::StrCat("layer ", layers[i], ": increasing numbers in [0, ",
                                              num_layers - 1, "] wanted"));
  }
  return absl::OkStatus();
}

// `config` with only some of its layers.
ModelConfig CutConfig(const ModelConfig& config, const std::vector<int64_t>& layers) {
  ModelConfig cut = config;
  cut.num_layers = static_cast<int64_t>(layers.size());
  cut.layers.clear();
  for (const int64_t layer : layers) cut.layers.push_back(config.layers[layer]);
  return cut;
}

// What is converted: a checkpoint, with an overlay or without.
struct Source {
  const Checkpoint& base;
  const Overlay* overlay;
  ModelConfig config;  // of both together

  const Checkpoint* Of(const std::string& tensor) const {
    return overlay == nullptr ? &base : &overlay->SourceOf(tensor, base);
  }
};

std::vector<Copy> PlanCopies(const Source& source, const ModelConfig& cut,
                             const std::vector<int64_t>& layers, DType dtype) {
  const ModelConfig& config = source.config;
  std::vector<Copy> copies;
  for (const ModelTensor& tensor : GlobalTensors(config)) {
    const bool is_map = tensor.name == kDraftTokenMapName;
    copies.push_back({source.Of(tensor.name),
                      tensor.name,
                      {tensor.name, is_map ? DType::kI64 : dtype, tensor.shape}});
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::vector<ModelTensor> from = LayerTensors(config, layers[i]);
    const std::vector<ModelTensor> to = LayerTensors(cut, static_cast<int64_t>(i));
    for (size_t t = 0; t < from.size(); ++t) {
      copies.push_back({source.Of(from[t].name), from[t].name, {to[t].name, dtype, to[t].shape}});
    }
  }
  return copies;
}

absl::Status CopyIntegers(const Copy& copy, SafetensorsWriter& writer) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> values, copy.source->ReadIntegers(copy.from));
  return writer.Append(
      {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t)});
}

absl::Status CopyRows(const Copy& copy, SafetensorsWriter& writer,
                      const std::function<void(int64_t)>& written) {
  const CheckpointTensor& tensor = copy.source->tensors().find(copy.from)->second;
  const int64_t row_size = tensor.row_size();
  const int64_t step = std::max<int64_t>(1, kPieceElements / row_size);
  std::vector<float> piece;
  for (int64_t row = 0; row < tensor.num_rows(); row += step) {
    const int64_t end = std::min(row + step, tensor.num_rows());
    piece.resize((end - row) * row_size);
    RETURN_IF_ERROR(copy.source->ReadRows(copy.from, row, end, piece.data()));
    RETURN_IF_ERROR(writer.AppendFloats(copy.to.dtype, piece));
    written(static_cast<int64_t>(piece.size()) * ByteSize(copy.to.dtype));
  }
  return absl::OkStatus();
}

absl::Status WriteWeights(const std::vector<Copy>& copies, const std::string& path,
                          const ConvertOptions& options) {
  std::vector<SafetensorsEntry> entries;
  int64_t total = 0;
  for (const Copy& copy : copies) {
    RETURN_IF_ERROR(copy.source->Expect(copy.from, copy.to.shape));
    entries.push_back(copy.to);
    total +=
        copy.source->tensors().find(copy.from)->second.num_elements() * ByteSize(copy.to.dtype);
  }
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, std::move(entries)));
  int64_t done = 0;
  const auto written = [&](int64_t bytes) {
    done += bytes;
    if (options.progress) options.progress(done, total);
  };
  for (const Copy& copy : copies) {
    RETURN_IF_ERROR(copy.to.dtype == DType::kI64 ? CopyIntegers(copy, writer)
                                                 : CopyRows(copy, writer, written));
  }
  return writer.Finish();
}

absl::Status WriteText(const fs::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (out) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path.string(), ": cannot be written"));
}

absl::Status WriteFolder(const Source& source, const Vocabulary& vocabulary, const std::string& dir,
                         const ConvertOptions& options, const std::vector<int64_t>& layers) {
  const ModelConfig& config = source.config;
  const fs::path folder(dir);
  ASSIGN_OR_RETURN(const std::string tokenizer, TokenizerJson(vocabulary));
  RETURN_IF_ERROR(WriteText(folder / "tokenizer.json", tokenizer));
  RETURN_IF_ERROR(WriteText(folder / "tokenizer_config.json",
                            TokenizerConfigJson(vocabulary, config.max_context_tokens)));
  RETURN_IF_ERROR(WriteText(folder / "generation_config.json", GenerationConfigJson(vocabulary)));
  const ModelConfig cut = CutConfig(config, layers);
  RETURN_IF_ERROR(WriteText(folder / "config.json", ConfigJson(cut, vocabulary, options.dtype)));
  RETURN_IF_ERROR(WriteWeights(PlanCopies(source, cut, layers, options.dtype),
                               (folder / "model.safetensors").string(), options));
  return source.overlay == nullptr ? absl::OkStatus() : source.overlay->checkpoint().CheckAllRead();
}

// Reads the new folder as a worker would.
absl::Status CheckFolder(const std::string& dir, const Vocabulary& source) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir));
  ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::Load(checkpoint));
  RETURN_IF_ERROR(CheckModelTensors(checkpoint, config));
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(dir));
  if (vocabulary.Digest() == source.Digest()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(dir, ": tokenizer digest ", vocabulary.Digest(),
                                          ", the source has ", source.Digest()));
}

absl::Status CheckVacant(const std::string& out) {
  std::error_code error;
  const fs::file_status status = fs::status(out, error);
  if (!fs::exists(status)) return absl::OkStatus();
  if (fs::is_directory(status) && fs::is_empty(out, error) && !error) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(out, ": exists and is no empty folder"));
}

// A folder that is removed unless it was renamed.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

  absl::Status Create() {
    std::error_code error;
    const fs::path parent = fs::absolute(path_).parent_path();
    fs::create_directories(parent, error);
    if (!error) fs::create_directory(path_, error);
    return error ? DiskError(path_, error) : absl::OkStatus();
  }

  absl::Status RenameTo(const std::string& out) {
    std::error_code error;
    fs::rename(path_, out, error);
    if (error) return DiskError(out, error);
    path_.clear();
    return absl::OkStatus();
  }

 private:
  std::string path_;
};

}  // namespace

absl::Status ConvertModel(const ConvertOptions& options) {
  RETURN_IF_ERROR(CheckVacant(options.out));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.in));
  // Its names are kept, so what they say of the scaling is said by the copy too.
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Load(checkpoint, RopeScalingRule::kApply));
  RETURN_IF_ERROR(CheckModelTensors(checkpoint, config));
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(options.in));
  Source source{checkpoint, nullptr, config};
  std::optional<Overlay> overlay;
  if (!options.overlay.empty()) {
    ASSIGN_OR_RETURN(overlay, Overlay::Open(options.overlay, checkpoint));
    source.overlay = &*overlay;
    ASSIGN_OR_RETURN(source.config, overlay->Apply(config));
  }
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < source.config.num_layers; ++layer) layers.push_back(layer);
  if (options.layers) layers = *options.layers;
  RETURN_IF_ERROR(CheckLayers(layers, source.config.num_layers));
  const std::string out = (fs::path(options.out) / "").parent_path().string();  // no last slash
  TemporaryFolder folder(absl::StrCat(out, ".partial-", getpid()));
  RETURN_IF_ERROR(folder.Create());
  RETURN_IF_ERROR(WriteFolder(source, vocabulary, folder.path(), options, layers));
  RETURN_IF_ERROR(CheckFolder(folder.path(), vocabulary));
  return folder.RenameTo(out);
}

}  // namespace krait
