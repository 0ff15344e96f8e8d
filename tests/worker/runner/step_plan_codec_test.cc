#include "worker/runner/step_plan_codec.h"

#include <gtest/gtest.h>

namespace krait {
namespace {

StepPlan ExamplePlan() {
  StepPlan plan{.step_id = int64_t{1} << 40};
  plan.starts.push_back({.id = 4, .prompt = {1, 2, 3}});
  plan.starts[0].sampling = {.temperature = 0.5f,
                             .top_k = 7,
                             .seed = ~uint64_t{0},
                             .choice = 2,
                             .logit_bias = {{3, -1.5f}, {9, 2}},
                             .min_tokens = 4,
                             .end_ids = {1, 2}};
  plan.work.push_back({.id = 4, .new_pages = {0, 1}, .num_tokens = 3, .draft_token_ids = {5, 6}});
  plan.work.push_back({.id = 2, .state_slot = 3, .num_tokens = 1});
  plan.work[0].path = ComputePath::kPrefill;
  plan.preempts = {7};
  plan.ends = {1, 8};
  return plan;
}

TEST(StepPlanCodecTest, WhatIsDecodedIsWhatWasEncoded) {
  for (const StepPlan& plan : {ExamplePlan(), StepPlan{}}) {
    const std::string bytes = EncodeStepPlan(plan);
    const absl::StatusOr<StepPlan> decoded = DecodeStepPlan(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->Hash(), plan.Hash());  // over every field (StepPlanTest)
    EXPECT_EQ(EncodeStepPlan(*decoded), bytes);
  }
}

TEST(StepPlanCodecTest, EveryCutAndEveryByteTooManyIsAnError) {
  const std::string bytes = EncodeStepPlan(ExamplePlan());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(DecodeStepPlan(bytes.substr(0, size)).status().code(), absl::StatusCode::kInternal);
  }
  EXPECT_EQ(DecodeStepPlan(bytes + '\0').status().code(), absl::StatusCode::kInternal);
}

TEST(StepPlanCodecTest, ALengthThatCannotBeTrueTakesNoMemory) {
  std::string bytes = EncodeStepPlan(StepPlan{});
  bytes.replace(8, 4, "\xff\xff\xff\xff");  // the number of starts
  EXPECT_FALSE(DecodeStepPlan(bytes).ok());
}

}  // namespace
}  // namespace krait
