#pragma once

#include <memory>
#include <utility>

#include "worker/runner/rank_group.h"
#include "worker/speculative/step_executor.h"

namespace krait {

// All ranks of a model as a StepExecutor. Engine thread only.
class RankGroupExecutor final : public StepExecutor {
 public:
  explicit RankGroupExecutor(std::unique_ptr<RankGroup> group) : group_(std::move(group)) {}

  void Start(std::shared_ptr<const StepPlan> plan) override { group_->Start(std::move(plan)); }
  absl::StatusOr<StepResult> Finish(absl::Duration deadline) override {
    return group_->Finish(deadline);
  }
  bool runs_ahead() const override { return group_->runs_ahead(); }
  int vocab_size() const override { return static_cast<int>(group_->config().vocab_size); }
  int max_context_tokens() const override {
    return static_cast<int>(group_->config().max_context_tokens);
  }
  int num_state_slots() const override { return group_->num_state_slots(); }
  const RankGroup& group() const { return *group_; }

 private:
  const std::unique_ptr<RankGroup> group_;
};

}  // namespace krait
