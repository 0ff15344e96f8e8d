// What a hybrid's names and files say of it.

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/hybrid_checkpoint.h"
#include "worker/models/model_config.h"

namespace krait::testing {
namespace {

constexpr char kLinear[] = R"({"type": "linear", "factor": 2})";

ModelConfig Load(const HybridOptions& options, RopeScalingRule rule) {
  const std::string dir =
      absl::StrCat(::testing::TempDir(), "/hybrid_config_", options.fused, options.mixers);
  EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, dir).ok());
  const auto checkpoint = Checkpoint::Open(dir);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto config = ModelConfig::Load(*checkpoint, rule);
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

// Scaling by interpolation also decides how many positions there are.
TEST(HybridConfigTest, RopeIsScaledByTheNamesOrAsTold) {
  HybridOptions options{.mixers = "2A"};
  options.base.rope_scaling = kLinear;
  const RopeScaling scaled = LinearRopeScaling{2};
  using Rule = RopeScalingRule;
  const struct {
    bool fused;
    Rule rule;
    bool is_scaled;
  } cases[] = {
      {false, Rule::kByNames, true}, {false, Rule::kApply, true}, {false, Rule::kIgnore, false},
      {true, Rule::kByNames, false}, {true, Rule::kApply, true},  {true, Rule::kIgnore, false},
  };
  for (const auto& one : cases) {
    options.fused = one.fused;
    const ModelConfig config = Load(options, one.rule);
    EXPECT_EQ(config.rope.scaling, one.is_scaled ? scaled : RopeScaling());
    EXPECT_EQ(config.max_context_tokens, options.base.max_context_tokens * (one.is_scaled ? 2 : 1));
  }
}

// Released hybrids are called what their base model is called.
TEST(HybridConfigTest, AMistralsWindowIsItsAttentionLayers) {
  HybridOptions options{.mixers = "1A1A"};
  options.base.sliding_window = 24;
  const ModelConfig config = Load(options, RopeScalingRule::kByNames);
  EXPECT_EQ(config.architecture, "MistralForCausalLM");
  EXPECT_EQ(config.sliding_window, 24);
  EXPECT_EQ(config.num_attention_layers(), 2);
}

}  // namespace
}  // namespace krait::testing
