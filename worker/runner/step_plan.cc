#include "worker/runner/step_plan.h"

#include "worker/runner/plan_hash.h"

namespace krait {
namespace {

void AddSampling(const SamplingParams& sampling, PlanHasher& hasher) {
  hasher.Add(sampling.temperature)
      .Add(int64_t{sampling.top_k})
      .Add(sampling.top_p)
      .Add(sampling.min_p)
      .Add(sampling.repetition_penalty)
      .Add(sampling.presence_penalty)
      .Add(sampling.frequency_penalty)
      .Add(static_cast<int64_t>(sampling.seed))
      .Add(int64_t{sampling.choice})
      .Add(int64_t{sampling.num_logprobs})
      .Add(static_cast<int64_t>(sampling.logit_bias.size()));
  for (const LogitBias& entry : sampling.logit_bias) hasher.Add(int64_t{entry.id}).Add(entry.bias);
  hasher.Add(int64_t{sampling.min_tokens}).AddList(sampling.end_ids);
}

}  // namespace

int StepPlan::num_tokens() const {
  int num_tokens = 0;
  for (const SequenceWork& item : work) {
    num_tokens += item.num_tokens + static_cast<int>(item.draft_token_ids.size());
  }
  return num_tokens;
}

uint64_t StepPlan::Hash() const {
  PlanHasher hasher;
  hasher.Add(step_id).Add(static_cast<int64_t>(starts.size()));
  for (const SequenceStart& start : starts) {
    hasher.Add(start.id).AddList(start.prompt);
    AddSampling(start.sampling, hasher);
  }
  hasher.Add(static_cast<int64_t>(work.size()));
  for (const SequenceWork& item : work) {
    hasher.Add(item.id).Add(static_cast<int64_t>(item.path)).AddList(item.new_pages);
    hasher.Add(int64_t{item.state_slot}).Add(int64_t{item.num_tokens});
    hasher.AddList(item.draft_token_ids);
  }
  return hasher.AddList(preempts).AddList(ends).hash();
}

}  // namespace krait
