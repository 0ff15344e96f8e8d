#pragma once

// A model without arithmetic: the next token is a hash of the seed and all tokens before it. As the
// plain twin of all ranks of a real one it checks every plan as they do, and accepts drafts by the
// same rule, so scheduler and engine can be tested at speed.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "worker/speculative/step_executor.h"

namespace krait::testing {

struct ScriptedModelOptions {
  int vocab_size = 100;
  int max_context_tokens = 4096;
  int page_size = 16;
  int num_state_slots = 0;
  bool runs_ahead = false;
};

// The token that follows `tokens`; a pure function.
TokenId ScriptedNext(const SamplingParams& sampling, absl::Span<const TokenId> tokens,
                     int vocab_size);

class ScriptedModel final : public StepExecutor {
 public:
  explicit ScriptedModel(const ScriptedModelOptions& options = {}) : options_(options) {}

  void Start(std::shared_ptr<const StepPlan> plan) override;
  absl::StatusOr<StepResult> Finish(absl::Duration deadline) override;
  bool runs_ahead() const override { return options_.runs_ahead; }
  int vocab_size() const override { return options_.vocab_size; }
  int max_context_tokens() const override { return options_.max_context_tokens; }
  int num_state_slots() const override { return options_.num_state_slots; }

  // Called before each step; what it returns is the step's status if it is not OK.
  std::function<absl::Status(const StepPlan&)> before_step;
  // Rows of this sequence are not finite.
  SequenceId poisoned = -1;
  int num_sequences() const { return static_cast<int>(sequences_.size()); }

 private:
  struct Known {
    std::vector<TokenId> tokens;
    int prompt_tokens = 0;
    SamplingParams sampling;
    int num_computed = 0;
    std::vector<PageId> pages;
  };
  absl::StatusOr<StepResult> Execute(const StepPlan& plan);
  SequenceResult Run(const SequenceWork& work);

  const ScriptedModelOptions options_;
  std::map<SequenceId, Known> sequences_;
  int64_t last_step_ = 0;
  std::deque<absl::StatusOr<StepResult>> started_;
};

}  // namespace krait::testing
