// On a real model, not a tiny one: KRAIT_MODEL is its folder or file. Fails if it is not set.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "worker/runner/rank_group.h"

namespace krait {
namespace {

// "The capital of France is" in SmolLM2's vocabulary; for another model just some tokens.
const std::vector<TokenId> kPrompt = {504, 3575, 282, 4649, 314};
constexpr int kTokens = 64;

std::string ModelPath() {
  const char* path = std::getenv("KRAIT_MODEL");
  return path == nullptr ? "" : path;
}

std::vector<TokenId> GreedyTokens(int num_ranks, DType weight_dtype, int num_threads = 2) {
  const absl::StatusOr<std::unique_ptr<RankGroup>> group = RankGroup::Create(
      {.model_path = ModelPath(),
       .tensor_parallel_size = num_ranks,
       .num_threads = num_threads,
       .runner = {.weight_dtype = weight_dtype, .num_pages = 8, .max_tokens = 16}});
  EXPECT_TRUE(group.ok()) << group.status();
  std::vector<TokenId> tokens;
  for (int64_t step = 1; group.ok() && step <= kTokens; ++step) {
    auto plan = std::make_shared<StepPlan>();
    plan->step_id = step;
    plan->work.push_back({.id = 1, .num_tokens = 1});
    if (step == 1) {
      plan->starts.push_back({.id = 1, .prompt = kPrompt, .sampling = {.temperature = 0}});
      plan->work[0].path = ComputePath::kPrefill;
      plan->work[0].new_pages = {3, 1, 7, 0, 5};
      plan->work[0].num_tokens = static_cast<int>(kPrompt.size());
    }
    const absl::StatusOr<StepResult> result = (*group)->Execute(plan, absl::Seconds(60));
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok() || result->results[0].token_ids.size() != 1) break;
    tokens.push_back(result->results[0].token_ids[0]);
  }
  EXPECT_EQ(tokens.size(), size_t{kTokens});
  return tokens;
}

class RealModelTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    ASSERT_FALSE(ModelPath().empty()) << "KRAIT_MODEL must name a model's folder or file";
  }
};

TEST_P(RealModelTest, EveryDegreeGeneratesTheSameTokens) {
  const std::vector<TokenId> expected = GreedyTokens(1, GetParam());
  EXPECT_EQ(GreedyTokens(2, GetParam()), expected);
  EXPECT_EQ(GreedyTokens(3, GetParam()), expected);
}

TEST_P(RealModelTest, ThreadsDoNotChangeTheTokens) {
  EXPECT_EQ(GreedyTokens(1, GetParam(), 1), GreedyTokens(1, GetParam(), 3));
}

INSTANTIATE_TEST_SUITE_P(WeightDTypes, RealModelTest, ::testing::Values(DType::kBF16, DType::kF32),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace krait
