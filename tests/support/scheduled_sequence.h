#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "tests/support/executor_bench.h"

namespace krait::testing {

// A sequence as a scheduler sees it: puts its work into plans and takes their results.
class ScheduledSequence {
 public:
  // `slot` and `pages` are its own from its first work to its end, also after a preemption.
  ScheduledSequence(SequenceStart start, StateSlotId slot, std::vector<PageId> pages)
      : start_(std::move(start)), known_(start_.prompt), slot_(slot), pages_(std::move(pages)) {}

  SequenceId id() const { return start_.id; }
  const std::vector<TokenId>& known() const { return known_; }
  int num_computed() const { return num_computed_; }
  // Known tokens that its next work may run: of the prompt, or those after it.
  int num_runnable() const {
    const int prompt = static_cast<int>(start_.prompt.size());
    const int end = num_computed_ < prompt ? prompt : static_cast<int>(known_.size());
    return end - num_computed_;
  }
  bool may_draft() const { return num_computed_ >= static_cast<int>(start_.prompt.size()); }

  // The next `num_tokens` known tokens; drafts only after the last of them, beyond the prompt.
  void Work(StepPlan& plan, int num_tokens, std::vector<TokenId> drafts = {}) {
    if (!started_) plan.starts.push_back(start_);
    SequenceWork work{.id = start_.id, .num_tokens = num_tokens};
    work.path = may_draft() ? ComputePath::kDecode : ComputePath::kPrefill;
    if (!holds_) {
      work.new_pages = pages_;
      work.state_slot = slot_;
    }
    started_ = holds_ = true;
    work.draft_token_ids = std::move(drafts);
    num_computed_ += num_tokens;
    plan.work.push_back(std::move(work));
  }
  void Take(const SequenceResult& result) {
    known_.insert(known_.end(), result.token_ids.begin(), result.token_ids.end());
    num_computed_ += result.num_accepted;
  }
  void Preempt(StepPlan& plan) {
    plan.preempts.push_back(start_.id);
    num_computed_ = 0;
    holds_ = false;
  }
  void End(StepPlan& plan) {
    if (started_) plan.ends.push_back(start_.id);
  }

 private:
  const SequenceStart start_;
  std::vector<TokenId> known_;
  const StateSlotId slot_;
  const std::vector<PageId> pages_;
  int num_computed_ = 0;
  bool started_ = false;
  bool holds_ = false;
};

}  // namespace krait::testing
