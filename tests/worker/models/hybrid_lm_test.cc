#include "worker/models/hybrid_lm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/core/bf16.h"
#include "tests/support/random_tokens.h"
#include "tests/support/runner_bench.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/worker/models/reference_llama.h"

namespace krait::testing {
namespace {

std::string Folder(const std::string& name) { return ::testing::TempDir() + "/llama_test_" + name; }

std::string Write(const TinyModel& model, const std::string& name, DType dtype = DType::kF32) {
  const absl::Status status = WriteTinyFolder(model, Folder(name), dtype);
  EXPECT_TRUE(status.ok()) << status;
  return Folder(name);
}

// Logits after every token of one prompt, in one pass.
Logits RunPrompt(RunnerBench& bench, const std::vector<TokenId>& tokens) {
  TestSequence sequence{.tokens = tokens, .pages = PageRange(0, 64)};
  const int count = static_cast<int>(tokens.size());
  return bench.Forward({sequence.Next(count, count)});
}

void ExpectNear(const Logits& logits, const std::vector<std::vector<double>>& expected) {
  ASSERT_EQ(logits.size(), expected.size());
  double worst = 0;
  for (size_t t = 0; t < logits.size(); ++t) {
    ASSERT_EQ(logits[t].size(), expected[t].size());
    for (size_t i = 0; i < logits[t].size(); ++i) {
      worst = std::max(worst, std::abs(logits[t][i] - expected[t][i]));
    }
  }
  EXPECT_LT(worst, 1e-4);
}

TEST(LlamaTest, LogitsAreThoseOfThePlainFormulas) {
  for (const bool tied : {true, false}) {
    const TinyModel model = MakeTinyModel({.tie_word_embeddings = tied, .seed = 3});
    RunnerBench bench(Write(model, tied ? "tied" : "untied"), 1);
    const std::vector<TokenId> tokens = RandomTokens(150, model.options.vocab_size, 4);
    ExpectNear(RunPrompt(bench, tokens), ReferenceLlama(model).Logits(tokens));
  }
}

TEST(LlamaTest, NineHeadsOnThreeGroupsMatchThePlainFormulas) {
  const TinyModel model = MakeTinyModel(
      {.num_layers = 2, .num_heads = 9, .intermediate_size = 104, .vocab_size = 300, .seed = 5});
  const std::vector<TokenId> tokens = RandomTokens(40, 300, 6);
  const std::vector<std::vector<double>> expected = ReferenceLlama(model).Logits(tokens);
  for (int num_ranks = 1; num_ranks <= 3; ++num_ranks) {
    RunnerBench bench(Write(model, "nine"), num_ranks);
    ExpectNear(RunPrompt(bench, tokens), expected);
  }
}

TEST(LlamaTest, EveryDegreeGivesTheSameBits) {
  const TinyModel model = MakeTinyModel({.seed = 7});
  const std::string folder = Write(model, "degrees");
  const std::vector<TokenId> tokens = RandomTokens(70, model.options.vocab_size, 8);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    RunnerBench alone(folder, 1, TinyRunnerOptions(dtype));
    const Logits expected = RunPrompt(alone, tokens);
    for (int num_ranks = 2; num_ranks <= 3; ++num_ranks) {
      RunnerBench bench(folder, num_ranks, TinyRunnerOptions(dtype));
      EXPECT_TRUE(SameBits(RunPrompt(bench, tokens), expected)) << num_ranks << Name(dtype);
    }
  }
}

TEST(LlamaTest, ThreadsDoNotChangeTheBits) {
  const TinyModel model = MakeTinyModel({.seed = 9});
  const std::string folder = Write(model, "threads");
  const std::vector<TokenId> tokens = RandomTokens(33, model.options.vocab_size, 10);
  RunnerBench one(folder, 1, TinyRunnerOptions(), 1);
  RunnerBench three(folder, 1, TinyRunnerOptions(), 3);
  EXPECT_TRUE(SameBits(RunPrompt(one, tokens), RunPrompt(three, tokens)));
}

TEST(LlamaTest, Bf16IsTheModelWithRoundedWeights) {
  TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 11});
  const std::string folder = Write(model, "bf16");
  for (auto& [name, tensor] : model.tensors) {
    for (float& value : tensor.values) value = FromBf16(ToBf16(value));
  }
  RunnerBench bench(folder, 1, TinyRunnerOptions(DType::kBF16));
  const std::vector<TokenId> tokens = RandomTokens(20, model.options.vocab_size, 12);
  ExpectNear(RunPrompt(bench, tokens), ReferenceLlama(model).Logits(tokens));
}

TEST(LlamaTest, GgufAndFolderGiveTheSameBits) {
  const TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 13});
  const std::string gguf = Folder("gguf") + ".gguf";
  ASSERT_TRUE(WriteTinyGguf(model, gguf).ok());
  const std::vector<TokenId> tokens = RandomTokens(20, model.options.vocab_size, 14);
  RunnerBench from_gguf(gguf, 2);
  RunnerBench from_folder(Write(model, "folder"), 2);
  EXPECT_TRUE(SameBits(RunPrompt(from_gguf, tokens), RunPrompt(from_folder, tokens)));
}

TEST(LlamaTest, AReducedHeadGivesTheFullHeadsLogitsOfItsTokens) {
  const TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 15});
  std::vector<TokenId> token_map;
  for (TokenId id = 1; id < 500; id += 3) token_map.push_back(id);
  ASSERT_TRUE(WriteTinyDraftFolder(model, token_map, Folder("reduced")).ok());
  const std::vector<TokenId> tokens = RandomTokens(20, model.options.vocab_size, 16);
  RunnerBench full(Write(model, "unreduced"), 1);
  const Logits expected = RunPrompt(full, tokens);
  for (int num_ranks = 1; num_ranks <= 2; ++num_ranks) {
    RunnerBench reduced(Folder("reduced"), num_ranks);
    const Logits logits = RunPrompt(reduced, tokens);
    std::vector<TokenId> ids;
    for (int r = 0; r < num_ranks; ++r) {
      const VocabShard& shard = reduced.runner(r).vocab_shard();
      ids.insert(ids.end(), shard.ids.begin(), shard.ids.end());
    }
    EXPECT_EQ(ids, token_map);
    for (size_t t = 0; t < tokens.size(); ++t) {
      for (size_t i = 0; i < ids.size(); ++i) ASSERT_EQ(logits[t][i], expected[t][ids[i]]);
    }
  }
}

// The rows that ask for no logits must not move the others.
TEST(LlamaTest, LogitsComeForTheRowsThatAskForThem) {
  const TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 17});
  RunnerBench bench(Write(model, "rows"), 1);
  const std::vector<TokenId> tokens = RandomTokens(24, model.options.vocab_size, 18);
  const Logits all = RunPrompt(bench, tokens);
  TestSequence sequence{.tokens = tokens, .pages = PageRange(64, 6)};
  const Logits last = bench.Forward({sequence.Next(24, 3)});
  EXPECT_TRUE(SameBits(last, Logits(all.end() - 3, all.end())));
}

TEST(LlamaTest, EveryPassReadsAllWeightsButTheEmbedding) {
  const TinyModel model = MakeTinyModel({.tie_word_embeddings = false, .seed = 19});
  int64_t elements = 0;
  for (const auto& [name, tensor] : model.tensors) {
    if (name != "model.embed_tokens.weight") elements += tensor.values.size();
  }
  RunnerBench bench(Write(model, "bytes"), 1);
  EXPECT_GE(bench.runner(0).weight_bytes(), elements * 4);
  EXPECT_LE(bench.runner(0).weight_bytes(), elements * 4 * 1.1);  // packing may pad
}

// Why no runner can be made of `model`.
std::string LoadError(const TinyModel& model) {
  const Checkpoint checkpoint = *Checkpoint::Open(Write(model, "bad"));
  Ranks ranks(1);
  const absl::Status status =
      ModelRunner::Create(TinyRunnerOptions(), *ModelConfig::Load(checkpoint), checkpoint,
                          ranks.backend(0), ranks.comm(0))
          .status();
  EXPECT_FALSE(status.ok());
  return std::string(status.message());
}

TEST(LlamaTest, AMissingTensorIsNamed) {
  TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 20});
  model.tensors.erase("model.layers.1.mlp.down_proj.weight");
  EXPECT_THAT(LoadError(model),
              ::testing::HasSubstr("model.layers.1.mlp.down_proj.weight: missing"));
}

TEST(LlamaTest, ABiasThatNothingAnnouncesIsRefused) {
  TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 21});
  model.tensors["model.layers.1.self_attn.v_proj.bias"] = {{24}, std::vector<float>(24)};
  EXPECT_THAT(
      LoadError(model),
      ::testing::HasSubstr("model.safetensors: tensor model.layers.1.self_attn.v_proj.bias: "
                           "stored, but the model has no place for it"));
}

TEST(LlamaTest, AnnouncedBiasesAreAllThereInTheirShapes) {
  const TinyModel model = MakeTinyModel({.num_layers = 2,
                                         .qkv_bias = true,
                                         .attention_output_bias = true,
                                         .mlp_bias = true,
                                         .seed = 22});
  for (const char* module : {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"}) {
    const std::string name = absl::StrCat("model.layers.1.", module, ".bias");
    TinyModel broken = model;
    broken.tensors.erase(name);
    EXPECT_THAT(LoadError(broken), ::testing::HasSubstr(name + ": missing"));
    broken.tensors[name] = {{7}, std::vector<float>(7)};
    EXPECT_THAT(LoadError(broken),
                ::testing::HasSubstr(name + ": shape [7] where the config needs ["));
  }
}

}  // namespace
}  // namespace krait::testing
