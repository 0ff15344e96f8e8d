#include "tests/support/tiny_checkpoint.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/byte_alphabet.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "common/tokenizer_writer.h"
#include "tests/support/gguf_writer.h"
#include "worker/weights/safetensors_writer.h"

namespace krait::testing {
namespace {

constexpr char kChatTemplate[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

// std::normal_distribution differs between libraries; this does not.
class Gaussian {
 public:
  explicit Gaussian(uint64_t seed) : words_(seed) {}
  float operator()() {
    const double u = (static_cast<double>(words_() >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(words_() >> 11) * 0x1p-53;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * M_PI * v));
  }

 private:
  std::mt19937_64 words_;
};

// Joins random pairs of short lower-case pieces, so that ordinary words have several tokens.
void AddMerges(Vocabulary& vocabulary, int64_t vocab_size, uint64_t seed) {
  std::vector<std::string> parts = {std::string(ByteSymbol(' '))};
  for (char c = 'a'; c <= 'z'; ++c) parts.push_back(std::string(1, c));
  std::set<std::string> known(vocabulary.pieces.begin(), vocabulary.pieces.end());
  std::mt19937_64 words(seed);
  while (static_cast<int64_t>(vocabulary.pieces.size()) < vocab_size) {
    const std::string& left = parts[words() % parts.size()];
    const std::string& right = parts[1 + words() % (parts.size() - 1)];
    if (absl::StartsWith(right, parts[0])) continue;  // a space only begins a piece
    const std::string joined = left + right;
    if (joined.size() > 6 || !known.insert(joined).second) continue;
    vocabulary.merges.push_back(absl::StrCat(left, " ", right));
    vocabulary.pieces.push_back(joined);
    parts.push_back(joined);
  }
}

Vocabulary MakeVocabulary(const TinyModelOptions& options) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre_tokenizer = "smollm";
  vocabulary.chat_template = kChatTemplate;
  vocabulary.pieces = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (int byte = 0; byte < 256; ++byte)
    vocabulary.pieces.emplace_back(ByteSymbol(static_cast<uint8_t>(byte)));
  AddMerges(vocabulary, options.vocab_size, options.seed);
  vocabulary.kinds.assign(vocabulary.pieces.size(), TokenKind::kNormal);
  for (int id = 0; id < 3; ++id) vocabulary.kinds[id] = TokenKind::kControl;
  vocabulary.bos_id = 1;
  vocabulary.eos_ids = {2};
  vocabulary.pad_id = 2;
  return vocabulary;
}

class TensorMaker {
 public:
  TensorMaker(TinyModel& model, uint64_t seed) : model_(model), gaussian_(seed) {}

  void Matrix(const std::string& name, int64_t n, int64_t k, float gain) {
    TinyTensor& tensor = Add(name, {n, k});
    const float scale = gain / std::sqrt(static_cast<float>(k));
    for (float& value : tensor.values) value = scale * gaussian_();
  }

  // A matrix [n, k], with a bias if it has one.
  void Projection(const std::string& name, int64_t n, int64_t k, float gain, bool has_bias) {
    Matrix(name + ".weight", n, k, gain);
    if (!has_bias) return;
    for (float& value : Add(name + ".bias", {n}).values) value = 0.5f * gaussian_();
  }

  void Norm(const std::string& name, int64_t n) {
    for (float& value : Add(name, {n}).values) value = 1.0f + 0.1f * gaussian_();
  }

 private:
  TinyTensor& Add(const std::string& name, std::vector<int64_t> shape) {
    int64_t size = 1;
    for (int64_t dim : shape) size *= dim;
    TinyTensor& tensor = model_.tensors[name];
    tensor.shape = std::move(shape);
    tensor.values.resize(size);
    return tensor;
  }

  TinyModel& model_;
  Gaussian gaussian_;
};

void AddLayer(TensorMaker& make, const TinyModel& model, int64_t layer) {
  const TinyModelOptions& options = model.options;
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const int64_t hidden = model.hidden_size();
  const int64_t kv = options.num_kv_heads * options.head_dim;
  make.Norm(prefix + "input_layernorm.weight", hidden);
  const int64_t q = model.q_size(), mlp = options.intermediate_size;
  make.Projection(prefix + "self_attn.q_proj", q, hidden, 1.5f, options.qkv_bias);
  make.Projection(prefix + "self_attn.k_proj", kv, hidden, 1.5f, options.qkv_bias);
  make.Projection(prefix + "self_attn.v_proj", kv, hidden, 1.5f, options.qkv_bias);
  make.Projection(prefix + "self_attn.o_proj", hidden, q, 1.0f, options.attention_output_bias);
  make.Norm(prefix + "post_attention_layernorm.weight", hidden);
  make.Projection(prefix + "mlp.gate_proj", mlp, hidden, 1.5f, options.mlp_bias);
  make.Projection(prefix + "mlp.up_proj", mlp, hidden, 1.5f, options.mlp_bias);
  make.Projection(prefix + "mlp.down_proj", hidden, mlp, 1.0f, options.mlp_bias);
}

// What only some families' files have.
std::string FamilyFields(const TinyModelOptions& options) {
  if (options.sliding_window != 0) {
    return absl::StrCat(R"("architectures": ["MistralForCausalLM"], "model_type": "mistral",)",
                        R"( "sliding_window": )", options.sliding_window);
  }
  if (options.qkv_bias && !options.attention_output_bias) {
    return R"("architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2")";
  }
  std::string fields = R"("architectures": ["LlamaForCausalLM"], "model_type": "llama")";
  if (options.qkv_bias) fields += R"(, "attention_bias": true)";
  if (options.mlp_bias) fields += R"(, "mlp_bias": true)";
  return fields;
}

std::string ConfigJson(const TinyModel& model) {
  const TinyModelOptions& options = model.options;
  return absl::StrCat(
      "{", FamilyFields(options), R"(, "hidden_act": "silu", "rope_scaling": )",
      options.rope_scaling.empty() ? "null" : options.rope_scaling, ",", R"( "hidden_size": )",
      model.hidden_size(), R"(, "num_hidden_layers": )", options.num_layers,
      R"(, "num_attention_heads": )", options.num_heads, R"(, "num_key_value_heads": )",
      options.num_kv_heads, R"(, "head_dim": )", options.head_dim, R"(, "intermediate_size": )",
      options.intermediate_size, R"(, "vocab_size": )", options.vocab_size, R"(, "rms_norm_eps": )",
      options.rms_norm_eps, R"(, "rope_theta": )", options.rope_theta,
      R"(, "max_position_embeddings": )", options.max_context_tokens,
      R"(, "tie_word_embeddings": )", options.tie_word_embeddings ? "true" : "false",
      R"(, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"})", "\n");
}

absl::Status WriteText(const std::filesystem::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out) return absl::UnavailableError(absl::StrCat(path.string(), ": cannot be written"));
  return absl::OkStatus();
}

struct ShardTensor {
  SafetensorsEntry entry;
  const std::vector<float>* values = nullptr;  // null: `raw` holds the bytes
  std::string raw;
};

absl::Status WriteShard(const std::string& path, const std::vector<ShardTensor>& tensors) {
  std::filesystem::remove(path);
  std::vector<SafetensorsEntry> entries;
  for (const ShardTensor& tensor : tensors) entries.push_back(tensor.entry);
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, entries));
  for (const ShardTensor& tensor : tensors) {
    if (tensor.values != nullptr) {
      RETURN_IF_ERROR(writer.AppendFloats(tensor.entry.dtype, *tensor.values));
    } else {
      RETURN_IF_ERROR(writer.Append(tensor.raw));
    }
  }
  return writer.Finish();
}

absl::Status WriteShards(const std::vector<std::vector<ShardTensor>>& shards,
                         const std::string& dir) {
  if (shards.size() == 1) return WriteShard(dir + "/model.safetensors", shards[0]);
  std::vector<std::string> rows;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = absl::StrCat("model-", i + 1, "-of-", shards.size(), ".safetensors");
    RETURN_IF_ERROR(WriteShard(absl::StrCat(dir, "/", file), shards[i]));
    for (const ShardTensor& tensor : shards[i]) {
      rows.push_back(absl::StrCat(QuoteJson(tensor.entry.name), ": ", QuoteJson(file)));
    }
  }
  return WriteText(dir + "/model.safetensors.index.json",
                   absl::StrCat(R"({"metadata": {"total_size": 0}, "weight_map": {)",
                                absl::StrJoin(rows, ", "), "}}"));
}

absl::Status WriteTokenizer(const TinyModel& model, const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string tokenizer, TokenizerJson(model.vocabulary));
  RETURN_IF_ERROR(WriteText(dir + "/tokenizer.json", tokenizer));
  RETURN_IF_ERROR(
      WriteText(dir + "/tokenizer_config.json",
                TokenizerConfigJson(model.vocabulary, model.options.max_context_tokens)));
  return WriteText(dir + "/generation_config.json", GenerationConfigJson(model.vocabulary));
}

absl::Status WriteFolder(const TinyModel& model, const std::string& dir, DType dtype,
                         int num_shards, std::vector<ShardTensor> extra) {
  std::filesystem::create_directories(dir);
  std::vector<std::vector<ShardTensor>> shards(num_shards);
  size_t next = 0;
  for (const auto& [name, tensor] : model.tensors) {
    shards[next++ % shards.size()].push_back({{name, dtype, tensor.shape}, &tensor.values, ""});
  }
  for (ShardTensor& tensor : extra) shards[0].push_back(std::move(tensor));
  RETURN_IF_ERROR(WriteShards(shards, dir));
  RETURN_IF_ERROR(WriteText(dir + "/config.json", ConfigJson(model)));
  return WriteTokenizer(model, dir);
}

struct NamePair {
  const char* hugging_face;
  const char* gguf;
};
constexpr NamePair kLayerNames[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};
constexpr const char* kParts[] = {".weight", ".bias"};

// llama.cpp's order of q and k rows: the halves of a head interleaved.
std::vector<float> PermutedRows(const TinyTensor& tensor, int64_t head_dim) {
  const int64_t k = tensor.shape.size() == 1 ? 1 : tensor.shape[1];
  std::vector<float> out;
  out.reserve(tensor.values.size());
  for (int64_t head = 0; head < tensor.shape[0]; head += head_dim) {
    for (int64_t i = 0; i < head_dim; ++i) {
      const int64_t row = head + (i % 2) * (head_dim / 2) + i / 2;
      out.insert(out.end(), tensor.values.begin() + row * k, tensor.values.begin() + (row + 1) * k);
    }
  }
  return out;
}

void AddTensor(GgufWriter& writer, const std::string& name, const TinyTensor& tensor,
               const std::vector<float>& values) {
  std::vector<uint64_t> shape(tensor.shape.rbegin(), tensor.shape.rend());
  writer.AddTensor(
      name, 0, shape,
      std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
}

void AddLayerTensors(GgufWriter& writer, const TinyModel& model, int64_t layer) {
  for (const NamePair& pair : kLayerNames) {
    const bool permuted =
        std::string_view(pair.gguf) == "attn_q" || std::string_view(pair.gguf) == "attn_k";
    for (const char* part : kParts) {
      const auto found =
          model.tensors.find(absl::StrCat("model.layers.", layer, ".", pair.hugging_face, part));
      if (found == model.tensors.end()) continue;
      const TinyTensor& tensor = found->second;
      AddTensor(writer, absl::StrCat("blk.", layer, ".", pair.gguf, part), tensor,
                permuted ? PermutedRows(tensor, model.options.head_dim) : tensor.values);
    }
  }
}

void AddModelKeys(GgufWriter& writer, const TinyModel& model) {
  const TinyModelOptions& options = model.options;
  writer.AddString("general.architecture", "llama");
  writer.AddString("general.name", "tiny");
  writer.AddUint32("llama.block_count", static_cast<uint32_t>(options.num_layers));
  writer.AddUint32("llama.context_length", static_cast<uint32_t>(options.max_context_tokens));
  writer.AddUint32("llama.embedding_length", static_cast<uint32_t>(model.hidden_size()));
  writer.AddUint32("llama.feed_forward_length", static_cast<uint32_t>(options.intermediate_size));
  writer.AddUint32("llama.attention.head_count", static_cast<uint32_t>(options.num_heads));
  writer.AddUint32("llama.attention.head_count_kv", static_cast<uint32_t>(options.num_kv_heads));
  writer.AddFloat32("llama.rope.freq_base", options.rope_theta);
  writer.AddFloat32("llama.attention.layer_norm_rms_epsilon", options.rms_norm_eps);
  writer.AddUint32("llama.vocab_size", static_cast<uint32_t>(options.vocab_size));
  writer.AddUint32("llama.rope.dimension_count", static_cast<uint32_t>(options.head_dim));
  writer.AddUint32("llama.attention.key_length", static_cast<uint32_t>(options.head_dim));
  if (options.sliding_window != 0) {
    writer.AddUint32("llama.attention.sliding_window",
                     static_cast<uint32_t>(options.sliding_window));
  }
}

void AddTokenizerKeys(GgufWriter& writer, const Vocabulary& vocabulary) {
  std::vector<int32_t> kinds;
  for (TokenKind kind : vocabulary.kinds) kinds.push_back(kind == TokenKind::kControl ? 3 : 1);
  writer.AddString("tokenizer.ggml.model", vocabulary.model);
  writer.AddString("tokenizer.ggml.pre", vocabulary.pre_tokenizer);
  writer.AddStrings("tokenizer.ggml.tokens", vocabulary.pieces);
  writer.AddInt32s("tokenizer.ggml.token_type", kinds);
  writer.AddStrings("tokenizer.ggml.merges", vocabulary.merges);
  writer.AddUint32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*vocabulary.bos_id));
  writer.AddUint32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(vocabulary.eos_ids[0]));
  writer.AddUint32("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(*vocabulary.pad_id));
  writer.AddBool("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  writer.AddString("tokenizer.chat_template", vocabulary.chat_template);
}

}  // namespace

TinyModel MakeTinyModel(const TinyModelOptions& options) {
  TinyModel model;
  model.options = options;
  model.vocabulary = MakeVocabulary(options);
  TensorMaker make(model, options.seed);
  make.Matrix("model.embed_tokens.weight", options.vocab_size, model.hidden_size(), 2.5f);
  for (int64_t layer = 0; layer < options.num_layers; ++layer) AddLayer(make, model, layer);
  make.Norm("model.norm.weight", model.hidden_size());
  if (!options.tie_word_embeddings) {
    make.Matrix("lm_head.weight", options.vocab_size, model.hidden_size(), 2.5f);
  }
  return model;
}

void AddNoise(TinyModel& model, float relative, uint64_t seed) {
  Gaussian gaussian(seed);
  for (auto& [name, tensor] : model.tensors) {
    if (tensor.shape.size() != 2) continue;
    double squares = 0;
    for (float value : tensor.values) squares += double{value} * value;
    const auto deviation = static_cast<float>(std::sqrt(squares / tensor.values.size()));
    for (float& value : tensor.values) value += relative * deviation * gaussian();
  }
}

absl::Status WriteTinyFolder(const TinyModel& model, const std::string& dir, DType dtype,
                             int num_shards) {
  return WriteFolder(model, dir, dtype, num_shards, {});
}

absl::Status WriteTinyGguf(const TinyModel& model, const std::string& path) {
  GgufWriter writer;
  AddModelKeys(writer, model);
  AddTokenizerKeys(writer, model.vocabulary);
  const auto add = [&](const char* name, const char* hugging_face) {
    const TinyTensor& tensor = model.tensors.at(hugging_face);
    AddTensor(writer, name, tensor, tensor.values);
  };
  add("token_embd.weight", "model.embed_tokens.weight");
  for (int64_t layer = 0; layer < model.options.num_layers; ++layer) {
    AddLayerTensors(writer, model, layer);
  }
  add("output_norm.weight", "model.norm.weight");
  if (!model.options.tie_word_embeddings) add("output.weight", "lm_head.weight");
  const std::vector<float>& divisors = model.options.rope_divisors;
  if (!divisors.empty()) {
    AddTensor(writer, "rope_freqs.weight", {{static_cast<int64_t>(divisors.size())}, {}}, divisors);
  }
  return WriteText(path, writer.Bytes());
}

absl::Status WriteTinyDraftFolder(const TinyModel& model, const std::vector<TokenId>& token_map,
                                  const std::string& dir) {
  TinyModel draft = model;
  const int64_t hidden = model.hidden_size();
  const auto head = model.tensors.find("lm_head.weight");
  const TinyTensor& full =
      head == model.tensors.end() ? model.tensors.at("model.embed_tokens.weight") : head->second;
  TinyTensor& reduced = draft.tensors["lm_head.weight"];
  reduced.shape = {static_cast<int64_t>(token_map.size()), hidden};
  reduced.values.clear();
  for (TokenId id : token_map) {
    const auto row = full.values.begin() + int64_t{id} * hidden;
    reduced.values.insert(reduced.values.end(), row, row + hidden);
  }
  draft.options.tie_word_embeddings = false;
  ShardTensor map;
  map.entry = {"draft.token_map", DType::kI32, {static_cast<int64_t>(token_map.size())}};
  map.raw.assign(reinterpret_cast<const char*>(token_map.data()),
                 token_map.size() * sizeof(TokenId));
  return WriteFolder(draft, dir, DType::kF32, 1, {std::move(map)});
}

}  // namespace krait::testing
