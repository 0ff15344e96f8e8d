// A plan from rank 0's process, which may be broken: whatever decodes encodes to the same bytes.

#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/runner/process_report.h"
#include "worker/runner/step_plan_codec.h"

namespace krait {

void FuzzOne(std::string_view input) {
  const auto plan = DecodeStepPlan(input);
  if (plan.ok()) CHECK(EncodeStepPlan(*plan) == input);
  (void)UnpackReport(input);
}

std::vector<std::string> FuzzSeeds() {
  StepPlan plan{.step_id = 5};
  plan.starts.push_back({.id = 4, .prompt = {1, 2, 3}});
  plan.starts[0].sampling.logit_bias = {{3, -1.5f}};
  plan.starts[0].sampling.end_ids = {1};
  plan.work.push_back({.id = 4, .new_pages = {0, 1}, .num_tokens = 3, .draft_token_ids = {5, 6}});
  plan.ends = {1};
  ProcessReport report;
  report.weights_digest = "abc";
  report.ranks.push_back({.device = "cpu:0", .host = "here", .pid = 7});
  return {EncodeStepPlan(plan), EncodeStepPlan(StepPlan{}), PackReport(report)};
}

}  // namespace krait
