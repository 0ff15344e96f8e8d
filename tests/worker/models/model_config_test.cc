#include "worker/models/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ModelConfig> LoadConfig(const std::string& path) {
  const auto checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return checkpoint.status();
  return ModelConfig::Load(*checkpoint);
}

class ModelConfigTest : public ::testing::Test {
 protected:
  ModelConfigTest() : root_(::testing::TempDir() + "/model_config_test") {
    fs::remove_all(root_);
    testing::TinyModelOptions options;
    options.num_layers = 2;
    options.rope_theta = 100000.0f;
    model_ = testing::MakeTinyModel(options);
    EXPECT_TRUE(WriteTinyFolder(model_, root_).ok());
  }
  ~ModelConfigTest() override { fs::remove_all(root_); }

  // Replaces `from` in config.json, which held the text that is returned.
  std::string Edit(const std::string& from, const std::string& to) {
    const std::string path = root_ + "/config.json";
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    const std::string edited = absl::StrReplaceAll(text.str(), {{from, to}});
    EXPECT_NE(edited, text.str()) << from;
    std::ofstream(path) << edited;
    return text.str();
  }

  // With `from` replaced for one load.
  std::string ErrorAfter(const std::string& from, const std::string& to) {
    const std::string path = root_ + "/config.json";
    const std::string text = Edit(from, to);
    const absl::Status status = LoadConfig(root_).status();
    std::ofstream(path) << text;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(path + ": "));
    return std::string(status.message());
  }

  const std::string root_;
  testing::TinyModel model_;
};

void ExpectTiny(const ModelConfig& config) {
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.hidden_size, 48);
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.num_heads, 6);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.intermediate_size, 96);
  EXPECT_EQ(config.vocab_size, 512);
  EXPECT_EQ(config.head_rows(), 512);
  EXPECT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_EQ(config.rope, RopeConfig{.theta = 100000.0f});
  EXPECT_EQ(config.sliding_window, 0);
  EXPECT_FALSE(config.qkv_bias || config.attention_output_bias || config.mlp_bias);
  EXPECT_EQ(config.max_context_tokens, 1024);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_THAT(config.layers, ElementsAre(LayerKind::kAttention, LayerKind::kAttention));
}

TEST_F(ModelConfigTest, FolderAndGgufSayTheSame) {
  const auto folder = LoadConfig(root_);
  ASSERT_TRUE(folder.ok()) << folder.status();
  ExpectTiny(*folder);
  const std::string path = ::testing::TempDir() + "/model_config_test.gguf";
  ASSERT_TRUE(WriteTinyGguf(model_, path).ok());
  const auto gguf = LoadConfig(path);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  ExpectTiny(*gguf);
}

TEST_F(ModelConfigTest, UntiedHeadIsSeenInBoth) {
  testing::TinyModelOptions options;
  options.tie_word_embeddings = false;
  const testing::TinyModel untied = testing::MakeTinyModel(options);
  const std::string path = ::testing::TempDir() + "/model_config_untied.gguf";
  ASSERT_TRUE(WriteTinyGguf(untied, path).ok());
  ASSERT_TRUE(WriteTinyFolder(untied, root_).ok());
  EXPECT_FALSE(LoadConfig(path)->tie_word_embeddings);
  EXPECT_FALSE(LoadConfig(root_)->tie_word_embeddings);
}

TEST_F(ModelConfigTest, RefusesNumbersOutsideTheirRange) {
  EXPECT_THAT(ErrorAfter("\"hidden_size\": 48", "\"hidden_size\": 0"),
              HasSubstr("hidden_size: 0 is outside [1, 65536]"));
  EXPECT_THAT(ErrorAfter("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 513"),
              HasSubstr("num_hidden_layers: 513"));
  EXPECT_THAT(ErrorAfter("\"vocab_size\": 512", "\"vocab_size\": 9223372036854775807"),
              HasSubstr("vocab_size: 9223372036854775807"));
  EXPECT_THAT(ErrorAfter("\"head_dim\": 8", "\"head_dim\": 7"),
              HasSubstr("head_dim: 7 is outside [8, 512]"));
  EXPECT_THAT(ErrorAfter("\"head_dim\": 8", "\"head_dim\": 12"),
              HasSubstr("head size: 12 is not a multiple of 8"));
  EXPECT_THAT(ErrorAfter("\"num_key_value_heads\": 3", "\"num_key_value_heads\": 4"),
              HasSubstr("6 is not a multiple of 4"));
  EXPECT_THAT(ErrorAfter("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": -1.0"),
              HasSubstr("RMS norm epsilon: -1"));
  EXPECT_THAT(ErrorAfter("\"intermediate_size\": 96", "\"intermediate_size\": \"96\""),
              HasSubstr("intermediate_size: an integer wanted, found a string"));
  EXPECT_THAT(ErrorAfter("\"hidden_size\": 48,", ""), HasSubstr("hidden_size: an integer wanted"));
}

TEST_F(ModelConfigTest, RefusesWhatThisBuildDoesNotRun) {
  const std::string hook = "\"hidden_act\": \"silu\"";
  EXPECT_THAT(ErrorAfter("LlamaForCausalLM", "FooForCausalLM"),
              HasSubstr("architectures: \"FooForCausalLM\" is not supported"));
  EXPECT_THAT(ErrorAfter("\"llama\"", "\"mistral\""),
              HasSubstr("model_type: \"mistral\" is not that of LlamaForCausalLM"));
  EXPECT_THAT(ErrorAfter(hook, hook + R"(, "sliding_window": 4096)"),
              HasSubstr("sliding_window: 4096 is not supported; MistralForCausalLM has one"));
  EXPECT_THAT(ErrorAfter(hook, hook + R"(, "partial_rotary_factor": 0.5)"),
              HasSubstr("partial_rotary_factor: 0.5 is not supported; 1 is"));
  EXPECT_THAT(ErrorAfter(hook, hook + R"(, "layer_types": ["full_attention", "chunked"])"),
              HasSubstr("layer_types: entry 1 is not \"full_attention\": not supported"));
  EXPECT_THAT(ErrorAfter(hook, hook + R"(, "quantization_config": {"quant_method": "awq"})"),
              HasSubstr("quantization_config: {\"quant_method\": \"awq\", ...} is not supported"));
  EXPECT_THAT(ErrorAfter(hook, "\"hidden_act\": \"gelu\""),
              HasSubstr("hidden_act: \"gelu\" is not supported"));
  EXPECT_THAT(ErrorAfter(hook, hook + R"(, "attention_bias": 1)"),
              HasSubstr("attention_bias: a boolean wanted"));
  EXPECT_THAT(ErrorAfter(hook, hook + ", " + hook), HasSubstr("duplicate key"));
}

TEST_F(ModelConfigTest, RefusesGgufFieldsByTheirKeys) {
  const std::string path = ::testing::TempDir() + "/model_config_bad.gguf";
  testing::GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddUint32("llama.attention.head_count", 6);
  writer.AddUint32("llama.embedding_length", 1 << 20);
  writer.Write(path);
  EXPECT_EQ(LoadConfig(path).status().message(),
            path + ": llama.embedding_length: 1048576 is outside [1, 65536]");
  writer.AddUint32("llama.expert_count", 8);
  writer.Write(path);
  EXPECT_EQ(LoadConfig(path).status().message(), path + ": llama.expert_count: 8 is not supported");
}

class FamilyTest : public ModelConfigTest {
 protected:
  // The tiny model with other options, as a folder.
  absl::StatusOr<ModelConfig> Load(const testing::TinyModelOptions& options) {
    EXPECT_TRUE(WriteTinyFolder(testing::MakeTinyModel(options), root_).ok());
    return LoadConfig(root_);
  }
};

TEST_F(FamilyTest, MistralHasAWindowUnlessItSaysNull) {
  const auto config = Load({.sliding_window = 7});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "MistralForCausalLM");
  EXPECT_EQ(config->sliding_window, 7);
  for (const char* bad : {"0", "-1", "1e3", "\"7\"", "16777217", "true"}) {
    EXPECT_THAT(ErrorAfter("\"sliding_window\": 7", absl::StrCat("\"sliding_window\": ", bad)),
                HasSubstr("sliding_window: "));
  }
  EXPECT_THAT(ErrorAfter("\"num_key_value_heads\": 3,", ""), HasSubstr("num_key_value_heads: "));
  EXPECT_THAT(ErrorAfter("\"hidden_act\"", "\"mlp_bias\": true, \"hidden_act\""),
              HasSubstr("mlp_bias: true is not supported"));
  Edit("\"sliding_window\": 7", "\"sliding_window\": null");
  EXPECT_EQ(LoadConfig(root_)->sliding_window, 0);
  Edit("\"sliding_window\": null,", "");
  EXPECT_EQ(LoadConfig(root_)->sliding_window, 4096) << "the architecture's default";
}

TEST_F(FamilyTest, BiasesAreWhatTheFileOrItsFamilySays) {
  const auto all = Load({.qkv_bias = true, .attention_output_bias = true, .mlp_bias = true});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_TRUE(all->qkv_bias && all->attention_output_bias && all->mlp_bias);
  const auto qwen = Load({.qkv_bias = true});
  ASSERT_TRUE(qwen.ok()) << qwen.status();
  EXPECT_EQ(qwen->architecture, "Qwen2ForCausalLM");
  EXPECT_TRUE(qwen->qkv_bias);
  EXPECT_FALSE(qwen->attention_output_bias || qwen->mlp_bias);
  EXPECT_THAT(ErrorAfter("\"hidden_act\"", "\"use_sliding_window\": true, \"hidden_act\""),
              HasSubstr("use_sliding_window: true is not supported"));
  Edit("\"hidden_act\"", "\"sliding_window\": 64, \"hidden_act\"");
  EXPECT_EQ(LoadConfig(root_)->sliding_window, 0) << "it is not switched on";
}

TEST_F(FamilyTest, AGgufFilesTensorsAnnounceItsBiases) {
  const std::string path = ::testing::TempDir() + "/model_config_biases.gguf";
  const auto load = [&](const testing::TinyModelOptions& options) {
    EXPECT_TRUE(WriteTinyGguf(testing::MakeTinyModel(options), path).ok());
    return LoadConfig(path);
  };
  const auto all = load({.qkv_bias = true, .attention_output_bias = true, .mlp_bias = true});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_TRUE(all->qkv_bias && all->attention_output_bias && all->mlp_bias);
  EXPECT_EQ(all->architecture, "LlamaForCausalLM");
  EXPECT_EQ(load({.qkv_bias = true})->architecture, "Qwen2ForCausalLM");
  EXPECT_EQ(load({.sliding_window = 9})->sliding_window, 9);
  EXPECT_THAT(load({.attention_output_bias = true}).status().message(),
              HasSubstr("biases: of q, k and v alone, or with those of o, wanted"));
  EXPECT_THAT(load({.sliding_window = 9, .qkv_bias = true}).status().message(),
              HasSubstr("sliding window: is not supported together with biases"));
}

TEST_F(ModelConfigTest, ReadsAReducedHeadAndItsMap) {
  ASSERT_TRUE(WriteTinyDraftFolder(model_, {2, 5, 511}, root_).ok());
  const auto checkpoint = Checkpoint::Open(root_);
  const auto config = ModelConfig::Load(*checkpoint);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->vocab_size, 512);
  EXPECT_EQ(config->head_rows(), 3);
  EXPECT_TRUE(checkpoint->Expect(kHeadName, {3, 48}).ok());
  const auto map = config->LoadDraftTokenMap(*checkpoint);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_THAT(*map, ElementsAre(2, 5, 511));
}

TEST_F(ModelConfigTest, RefusesAMapThatIsNotIncreasingOrLeavesTheVocabulary) {
  for (const std::vector<TokenId>& ids : {std::vector<TokenId>{2, 2}, {5, 4}, {1, 512}, {-1, 3}}) {
    ASSERT_TRUE(WriteTinyDraftFolder(model_, {0, 1}, root_).ok());
    // The two ids are the file's last tensor; the head's rows do not matter here.
    std::fstream file(root_ + "/model.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-8, std::ios::end);
    file.write(reinterpret_cast<const char*>(ids.data()), 8);
    file.close();
    const auto checkpoint = Checkpoint::Open(root_);
    const auto config = ModelConfig::Load(*checkpoint);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_THAT(config->LoadDraftTokenMap(*checkpoint).status().message(),
                HasSubstr("model.safetensors: tensor draft.token_map: entry "));
  }
}

}  // namespace
}  // namespace krait
