#pragma once

#include "worker/runner/step_plan.h"

namespace krait {

// Names every field of a plan but draft_masses once, for whoever hashes, writes or reads it: a
// field that is added here is in all three. An archive has Value(scalar) and List(list, visit),
// which visits each element; `Plan` is const for those that only look.
template <typename Archive, typename Sampling>
void VisitSampling(Archive& archive, Sampling& sampling) {
  archive.Value(sampling.temperature);
  archive.Value(sampling.top_k);
  archive.Value(sampling.top_p);
  archive.Value(sampling.min_p);
  archive.Value(sampling.repetition_penalty);
  archive.Value(sampling.presence_penalty);
  archive.Value(sampling.frequency_penalty);
  archive.Value(sampling.seed);
  archive.Value(sampling.choice);
  archive.Value(sampling.num_logprobs);
  archive.List(sampling.logit_bias, [&](auto& entry) {
    archive.Value(entry.id);
    archive.Value(entry.bias);
  });
  archive.Value(sampling.min_tokens);
  archive.List(sampling.end_ids, [&](auto& id) { archive.Value(id); });
}

template <typename Archive, typename Plan>
void VisitPlan(Archive& archive, Plan& plan) {
  const auto value = [&](auto& one) { archive.Value(one); };
  archive.Value(plan.step_id);
  archive.List(plan.starts, [&](auto& start) {
    archive.Value(start.id);
    archive.List(start.prompt, value);
    VisitSampling(archive, start.sampling);
  });
  archive.List(plan.work, [&](auto& work) {
    archive.Value(work.id);
    archive.Value(work.path);
    archive.List(work.new_pages, value);
    archive.Value(work.state_slot);
    archive.Value(work.num_tokens);
    archive.List(work.draft_token_ids, value);
  });
  archive.List(plan.preempts, value);
  archive.List(plan.ends, value);
}

}  // namespace krait
