#include "tests/support/scripted_model.h"

#include <set>

#include "common/logging.h"
#include "common/prefix_hash.h"
#include "common/status_macros.h"

namespace krait::testing {

TokenId ScriptedNext(const SamplingParams& sampling, absl::Span<const TokenId> tokens,
                     int vocab_size) {
  uint64_t hash =
      PrefixHash(tokens) ^ ((sampling.seed + 977 * sampling.choice) * 0x9e3779b97f4a7c15ull);
  hash ^= hash >> 29;
  hash *= 0xbf58476d1ce4e5b9ull;
  return static_cast<TokenId>((hash >> 33) % vocab_size);
}

SequenceResult ScriptedModel::Run(const SequenceWork& work) {
  CHECK(sequences_.contains(work.id)) << "unknown sequence " << work.id;
  Known& known = sequences_[work.id];
  known.pages.insert(known.pages.end(), work.new_pages.begin(), work.new_pages.end());
  const int left = static_cast<int>(known.tokens.size()) - known.num_computed;
  CHECK(work.num_tokens >= 1 && work.num_tokens <= left);
  if (work.path == ComputePath::kPrefill) {
    CHECK_LE(known.num_computed + work.num_tokens, known.prompt_tokens);
    CHECK(work.draft_token_ids.empty());
  } else {
    CHECK_GE(known.num_computed, known.prompt_tokens);
  }
  const size_t length = known.num_computed + work.num_tokens + work.draft_token_ids.size();
  CHECK_LE(length, known.pages.size() * options_.page_size) << "tokens beyond the pages";
  CHECK_LE(static_cast<int>(length), options_.max_context_tokens);

  SequenceResult result{.id = work.id};
  if (work.num_tokens < left) {
    CHECK(work.draft_token_ids.empty());
    known.num_computed += work.num_tokens;
    return result;
  }
  if (work.id == poisoned) {
    result.finite = false;
    return result;
  }
  while (true) {
    const TokenId next = ScriptedNext(known.sampling, known.tokens, options_.vocab_size);
    known.tokens.push_back(next);
    result.token_ids.push_back(next);
    if (known.sampling.num_logprobs >= 0) result.logprobs.push_back({{next, -1.0f}, {}});
    const size_t drawn = result.token_ids.size();
    if (drawn > work.draft_token_ids.size() || work.draft_token_ids[drawn - 1] != next) break;
    ++result.num_accepted;
  }
  known.num_computed += work.num_tokens + result.num_accepted;
  return result;
}

void ScriptedModel::Start(std::shared_ptr<const StepPlan> plan) {
  CHECK_LT(started_.size(), options_.runs_ahead ? 2u : 1u);
  started_.push_back(Execute(*plan));
}

absl::StatusOr<StepResult> ScriptedModel::Finish(absl::Duration deadline) {
  CHECK(!started_.empty());
  absl::StatusOr<StepResult> result = std::move(started_.front());
  started_.pop_front();
  return result;
}

absl::StatusOr<StepResult> ScriptedModel::Execute(const StepPlan& plan) {
  if (before_step) RETURN_IF_ERROR(before_step(plan));
  CHECK_EQ(plan.step_id, last_step_ + 1);
  last_step_ = plan.step_id;
  for (SequenceId id : plan.preempts) {
    CHECK(sequences_.contains(id)) << "unknown sequence " << id;
    sequences_[id].num_computed = 0;
    sequences_[id].pages.clear();
  }
  for (SequenceId id : plan.ends) CHECK_EQ(sequences_.erase(id), 1u);
  for (const SequenceStart& start : plan.starts) {
    CHECK(sequences_
              .try_emplace(start.id, Known{.tokens = start.prompt,
                                           .prompt_tokens = static_cast<int>(start.prompt.size()),
                                           .sampling = start.sampling})
              .second);
  }
  StepResult result{.step_id = plan.step_id};
  for (const SequenceWork& work : plan.work) result.results.push_back(Run(work));
  std::set<PageId> held;
  for (const auto& [id, known] : sequences_) {
    for (PageId page : known.pages) CHECK(held.insert(page).second) << "two hold page " << page;
  }
  return result;
}

}  // namespace krait::testing
