#include "worker/tools/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/json.h"
#include "common/vocabulary.h"
#include "kernels/core/bf16.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/tiny_checkpoint.h"
#include "worker/models/model_config.h"
#include "worker/models/model_tensors.h"
#include "worker/tools/engine_tool.h"
#include "worker/tools/inspect.h"
#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ConvertTest : public ::testing::Test {
 protected:
  ConvertTest() : root_(::testing::TempDir() + "/convert_test") {
    fs::remove_all(root_);
    fs::create_directories(root_);
    EXPECT_TRUE(WriteTinyGguf(model_, Source()).ok());
    options_.in = Source();
    options_.out = root_ + "/out";
  }
  ~ConvertTest() override { fs::remove_all(root_); }

  std::string Source() const { return root_ + "/tiny.gguf"; }

  static void ExpectSameModel(const std::string& a, const std::string& b) {
    const auto first = Checkpoint::Open(a), second = Checkpoint::Open(b);
    ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
    const auto one = ModelConfig::Load(*first), other = ModelConfig::Load(*second);
    ASSERT_TRUE(one.ok() && other.ok()) << one.status() << other.status();
    EXPECT_EQ(*one, *other);
    EXPECT_TRUE(CheckModelTensors(*second, *other).ok());
    for (const auto& [name, tensor] : second->tensors()) {
      std::vector<float> values(tensor.num_elements()), wanted(tensor.num_elements());
      ASSERT_TRUE(first->Expect(name, tensor.shape).ok()) << name;
      ASSERT_TRUE(first->ReadRows(name, 0, tensor.num_rows(), wanted.data()).ok());
      ASSERT_TRUE(second->ReadRows(name, 0, tensor.num_rows(), values.data()).ok());
      EXPECT_EQ(values, wanted) << name;
    }
  }

  const std::string root_;
  const testing::TinyModel model_ = testing::MakeTinyModel();
  ConvertOptions options_;
};

TEST_F(ConvertTest, WritesTheSameModelAndTokenizer) {
  ASSERT_TRUE(ConvertModel(options_).ok());
  const auto checkpoint = Checkpoint::Open(options_.out);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->tensors().size(), model_.tensors.size());
  for (const auto& [name, tensor] : model_.tensors) {
    std::vector<float> values(tensor.values.size());
    ASSERT_TRUE(checkpoint->Expect(name, tensor.shape).ok());
    ASSERT_TRUE(checkpoint->ReadRows(name, 0, tensor.shape[0], values.data()).ok());
    EXPECT_EQ(values, tensor.values) << name;
  }
  const auto source = Vocabulary::Load(Source());
  const auto copy = Vocabulary::Load(options_.out);
  ASSERT_TRUE(source.ok() && copy.ok()) << copy.status();
  EXPECT_EQ(copy->Digest(), source->Digest());
  EXPECT_EQ(copy->chat_template, source->chat_template);
  EXPECT_EQ(copy->eos_ids, source->eos_ids);
  EXPECT_EQ(copy->bos_id, source->bos_id);
  EXPECT_EQ(copy->add_bos, source->add_bos);
}

TEST_F(ConvertTest, CutsAndRenumbersLayersAndRounds) {
  options_.layers = {{0, 3}};
  options_.dtype = DType::kBF16;
  ASSERT_TRUE(ConvertModel(options_).ok());
  const auto checkpoint = Checkpoint::Open(options_.out);
  const auto config = ModelConfig::Load(*checkpoint);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_layers, 2);
  EXPECT_TRUE(CheckModelTensors(*checkpoint, *config).ok());
  const std::vector<float>& third =
      model_.tensors.at("model.layers.3.self_attn.k_proj.weight").values;
  std::vector<float> values(third.size());
  ASSERT_TRUE(
      checkpoint->ReadRows("model.layers.1.self_attn.k_proj.weight", 0, 24, values.data()).ok());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(values[i], FromBf16(ToBf16(third[i])));
  }
}

// Everything that changes the computation, once from a GGUF file and once from its own output.
TEST_F(ConvertTest, KeepsBiasesWindowsScalingAndHeadSizes) {
  const std::vector<testing::TinyModelOptions> variants = {
      {.num_layers = 2, .sliding_window = 17},
      {.num_layers = 2, .head_dim = 24, .hidden_size = 40, .tie_word_embeddings = false},
      {.num_layers = 2, .qkv_bias = true},
      {.num_layers = 2, .qkv_bias = true, .attention_output_bias = true, .mlp_bias = true},
      {.num_layers = 2, .rope_divisors = {1, 1.1f, 3.7f, 8}},
  };
  for (size_t i = 0; i < variants.size(); ++i) {
    const testing::TinyModel model = testing::MakeTinyModel(variants[i]);
    ASSERT_TRUE(WriteTinyGguf(model, Source()).ok());
    std::string from = Source();
    for (const std::string& name : {absl::StrCat("once", i), absl::StrCat("twice", i)}) {
      options_.in = from;
      options_.out = root_ + "/" + name;
      const absl::Status status = ConvertModel(options_);
      ASSERT_TRUE(status.ok()) << status;
      ExpectSameModel(Source(), options_.out);
      from = options_.out;
    }
  }
}

// Names are kept, and with them what they say of the scaling.
TEST_F(ConvertTest, CutsHybridsWithTheirNamesAndScaling) {
  for (const bool fused : {false, true}) {
    testing::HybridOptions hybrid{.mixers = "2A1A2", .fused = fused};
    hybrid.base.rope_scaling = R"({"type": "linear", "factor": 2.5})";
    options_.in = absl::StrCat(root_, "/hybrid", fused);
    options_.out = absl::StrCat(root_, "/cut", fused);
    options_.layers = {{1, 2, 4}};  // layer 0 of the copy is of another kind than the source's
    ASSERT_TRUE(WriteHybridFolder(MakeHybridModel(hybrid), hybrid, options_.in).ok());
    const absl::Status status = ConvertModel(options_);
    ASSERT_TRUE(status.ok()) << status;
    const auto from = Checkpoint::Open(options_.in), to = Checkpoint::Open(options_.out);
    for (const RopeScalingRule rule : {RopeScalingRule::kByNames, RopeScalingRule::kApply}) {
      ModelConfig wanted = *ModelConfig::Load(*from, rule);
      wanted.num_layers = 3;
      wanted.layers = {wanted.layers[1], wanted.layers[2], wanted.layers[4]};
      EXPECT_EQ(*ModelConfig::Load(*to, rule), wanted);
    }
    const char* name =
        fused ? "model.layers.0.mha.in_proj.weight" : "model.layers.1.mamba.B_proj.weight";
    EXPECT_TRUE(to->Has(name));
  }
}

TEST_F(ConvertTest, KeepsScalingsThatOnlyFoldersHave) {
  for (const char* scaling :
       {R"({"type": "linear", "factor": 2.5})",
        R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 64})"}) {
    options_.in = root_ + "/scaled";
    options_.out = root_ + "/out";
    fs::remove_all(options_.out);
    const testing::TinyModel model = testing::MakeTinyModel(
        {.num_layers = 1, .max_context_tokens = 101, .rope_scaling = scaling});
    ASSERT_TRUE(WriteTinyFolder(model, options_.in).ok());
    const absl::Status status = ConvertModel(options_);
    ASSERT_TRUE(status.ok()) << status;
    ExpectSameModel(options_.in, options_.out);
  }
}

TEST_F(ConvertTest, KeepsAReducedHead) {
  options_.in = root_ + "/draft";
  ASSERT_TRUE(WriteTinyDraftFolder(model_, {1, 7, 300}, options_.in).ok());
  ASSERT_TRUE(ConvertModel(options_).ok());
  const auto checkpoint = Checkpoint::Open(options_.out);
  const auto config = ModelConfig::Load(*checkpoint);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(*config->LoadDraftTokenMap(*checkpoint), ::testing::ElementsAre(1, 7, 300));
}

TEST_F(ConvertTest, ReportsProgressUpToTheTotal) {
  int64_t last = 0;
  int64_t total = 0;
  options_.progress = [&](int64_t bytes, int64_t all) {
    EXPECT_GT(bytes, last);
    last = bytes;
    total = all;
  };
  ASSERT_TRUE(ConvertModel(options_).ok());
  EXPECT_GT(last, 0);
  EXPECT_EQ(last, total);
}

TEST_F(ConvertTest, LeavesNothingBehindWhenItFails) {
  options_.layers = {{4}};
  EXPECT_EQ(ConvertModel(options_).code(), absl::StatusCode::kOutOfRange);
  options_.layers.reset();
  fs::resize_file(Source(), fs::file_size(Source()) - 64);
  EXPECT_EQ(ConvertModel(options_).code(), absl::StatusCode::kInvalidArgument);
  // A value that only reading finds.
  testing::TinyModel broken = model_;
  broken.tensors["model.norm.weight"].values[3] = INFINITY;
  ASSERT_TRUE(WriteTinyGguf(broken, Source()).ok());
  EXPECT_THAT(ConvertModel(options_).message(),
              HasSubstr("tensor output_norm.weight: value [3, 0] is not finite"));
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(root_)) ++entries;
  EXPECT_EQ(entries, 1);  // the source
}

TEST_F(ConvertTest, NeverWritesIntoAFolderThatHoldsSomething) {
  fs::create_directories(options_.out);
  std::ofstream(options_.out + "/precious") << "x";
  EXPECT_EQ(ConvertModel(options_).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(fs::exists(options_.out + "/precious"));
  fs::remove(options_.out + "/precious");
  EXPECT_TRUE(ConvertModel(options_).ok());  // an empty folder may be there
}

int ExitCodeOf(const std::vector<std::string>& words) {
  std::vector<const char*> argv = {"krait-engine"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  return RunEngineTool(static_cast<int>(argv.size()), argv.data());
}

TEST_F(ConvertTest, ExitCodesTellMisuseFromBadModels) {
  EXPECT_EQ(ExitCodeOf({"convert", "--help"}), 0);
  EXPECT_EQ(ExitCodeOf({"convert", "--in", Source()}), 64);
  EXPECT_EQ(ExitCodeOf({"convert", "--in", Source(), "--out", options_.out, "--dtype", "x"}), 64);
  EXPECT_EQ(ExitCodeOf({"convert", "--in", Source(), "--out", options_.out, "--layers=9"}), 64);
  EXPECT_EQ(ExitCodeOf({"convert", "--in", root_ + "/none", "--out", options_.out}), 65);
  EXPECT_EQ(ExitCodeOf({"convert", "--in", Source(), "--out", options_.out, "--layers=1,2"}), 0);
  EXPECT_EQ(ExitCodeOf({"inspect", options_.out}), 0);
  EXPECT_EQ(ExitCodeOf({"inspect"}), 64);
  EXPECT_EQ(ExitCodeOf({"inspect", "--frob", options_.out}), 64);
  std::ofstream(options_.out + "/config.json") << "{}";
  EXPECT_EQ(ExitCodeOf({"inspect", options_.out}), 65);
}

TEST_F(ConvertTest, InspectCountsParametersAndBytes) {
  const auto text = InspectModel(Source(), /*json=*/true);
  ASSERT_TRUE(text.ok()) << text.status();
  const auto json = ParseJson(*text);
  ASSERT_TRUE(json.ok()) << json.status();
  int64_t parameters = 0;
  for (const auto& [name, tensor] : model_.tensors) {
    parameters += static_cast<int64_t>(tensor.values.size());
  }
  EXPECT_EQ(*json->GetInt("parameters"), parameters);
  EXPECT_EQ(*json->GetInt("bytes"), 4 * parameters);
  EXPECT_EQ(*json->Find("bytes_by_type")->Find("F32")->GetInt("bytes"), 4 * parameters);
  EXPECT_EQ(*json->GetString("tokenizer_digest"), Vocabulary::Load(Source())->Digest());
}

TEST_F(ConvertTest, InspectRefusesAModelWithATensorTooManyOrTooFew) {
  testing::TinyModel extra = model_;
  extra.tensors["model.layers.0.self_attn.q_proj.bias"] = {{48}, std::vector<float>(48)};
  ASSERT_TRUE(WriteTinyFolder(extra, root_ + "/extra").ok());
  EXPECT_THAT(InspectModel(root_ + "/extra", false).status().message(),
              HasSubstr("tensor model.layers.0.self_attn.q_proj.bias: stored, but the model"));
  testing::TinyModel missing = model_;
  missing.tensors.erase("model.layers.2.mlp.up_proj.weight");
  ASSERT_TRUE(WriteTinyFolder(missing, root_ + "/missing").ok());
  EXPECT_THAT(InspectModel(root_ + "/missing", false).status().message(),
              HasSubstr("model.safetensors: tensor model.layers.2.mlp.up_proj.weight: missing"));
}

}  // namespace
}  // namespace krait
