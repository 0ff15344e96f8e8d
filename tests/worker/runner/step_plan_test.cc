#include "worker/runner/step_plan.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <vector>

namespace krait {
namespace {

StepPlan ExamplePlan() {
  StepPlan plan{.step_id = 9};
  plan.starts.push_back({.id = 4, .prompt = {1, 2, 3}, .sampling = {.seed = 7}});
  plan.work.push_back({.id = 4, .new_pages = {0, 1}, .num_tokens = 3, .draft_token_ids = {5, 6}});
  plan.work.push_back({.id = 2, .num_tokens = 1});
  plan.ends = {1};
  return plan;
}

TEST(StepPlanTest, CountsKnownTokensAndDrafts) { EXPECT_EQ(ExamplePlan().num_tokens(), 6); }

TEST(StepPlanTest, EqualPlansHashAlike) { EXPECT_EQ(ExamplePlan().Hash(), ExamplePlan().Hash()); }

TEST(StepPlanTest, EveryFieldIsHashed) {
  const std::vector<std::function<void(StepPlan&)>> changes = {
      [](StepPlan& plan) { plan.step_id = 10; },
      [](StepPlan& plan) { plan.starts[0].id = 5; },
      [](StepPlan& plan) { plan.starts[0].prompt[1] = 4; },
      [](StepPlan& plan) { plan.starts[0].sampling.temperature = 0.5f; },
      [](StepPlan& plan) { plan.starts[0].sampling.top_k = 1; },
      [](StepPlan& plan) { plan.starts[0].sampling.top_p = 0.5f; },
      [](StepPlan& plan) { plan.starts[0].sampling.min_p = 0.5f; },
      [](StepPlan& plan) { plan.starts[0].sampling.repetition_penalty = 2; },
      [](StepPlan& plan) { plan.starts[0].sampling.presence_penalty = 2; },
      [](StepPlan& plan) { plan.starts[0].sampling.frequency_penalty = 2; },
      [](StepPlan& plan) { plan.starts[0].sampling.seed = 8; },
      [](StepPlan& plan) { plan.starts[0].sampling.choice = 1; },
      [](StepPlan& plan) { plan.starts[0].sampling.num_logprobs = 1; },
      [](StepPlan& plan) { plan.work[0].id = 3; },
      [](StepPlan& plan) { plan.work[0].new_pages[1] = 2; },
      [](StepPlan& plan) { plan.work[0].num_tokens = 2; },
      [](StepPlan& plan) { plan.work[0].draft_token_ids[0] = 6; },
      [](StepPlan& plan) { plan.work[0].draft_token_ids.pop_back(); },
      [](StepPlan& plan) { plan.work.pop_back(); },
      [](StepPlan& plan) { std::swap(plan.work[0], plan.work[1]); },
      [](StepPlan& plan) { plan.work[0].path = ComputePath::kPrefill; },
      [](StepPlan& plan) { plan.preempts = {2}; },
      [](StepPlan& plan) { std::swap(plan.preempts, plan.ends); },
      [](StepPlan& plan) { plan.ends[0] = 2; },
      [](StepPlan& plan) { plan.ends.clear(); },
      // The same numbers, cut otherwise between two lists.
      [](StepPlan& plan) {
        plan.work[0].new_pages = {0};
        plan.work[0].draft_token_ids = {1, 5, 6};
      },
  };
  std::set<uint64_t> hashes = {ExamplePlan().Hash()};
  for (const auto& change : changes) {
    StepPlan plan = ExamplePlan();
    change(plan);
    EXPECT_TRUE(hashes.insert(plan.Hash()).second) << "change " << hashes.size() - 1;
  }
}

}  // namespace
}  // namespace krait
