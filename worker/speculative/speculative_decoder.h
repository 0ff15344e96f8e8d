#pragma once

#include <deque>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "worker/speculative/lookahead_policy.h"
#include "worker/speculative/proposer.h"
#include "worker/speculative/step_executor.h"

namespace krait {

struct SpeculationConfig {
  bool fixed_draft_tokens = false;                          // always as many as the limit allows
  absl::Duration proposal_deadline = absl::ZeroDuration();  // zero: max(5 ms, half a median step)
  absl::Duration step_deadline = absl::Seconds(60);
};

// A step that is under way.
struct StartedStep {
  std::shared_ptr<const StepPlan> plan;  // with the drafts that it verifies
  absl::Duration draft_wait;
  ProposalOutcome proposals;
};

// A step that has run.
struct DecodedStep {
  std::shared_ptr<const StepPlan> plan;  // with the drafts that were verified
  StepResult result;
  absl::Duration pass;  // the target's; of steps that overlap, since the one before it was finished
  absl::Duration draft_wait;
  ProposalOutcome proposals;
};

// One step: propose, verify, accept. Without drafts it is the same code: speculation is a property
// of a step. Neither keeps nor changes sequences. Engine thread only.
class SpeculativeDecoder {
 public:
  // `proposer` may be null; all pointers outlive this.
  SpeculativeDecoder(const SpeculationConfig& config, StepExecutor* executor, Proposer* proposer,
                     const Clock* clock);

  // A sequence that may be drafted for begins and ends.
  void Begin(SequenceId id, absl::Span<const TokenId> prompt, const SamplingParams& sampling);
  void Release(SequenceId id);

  // How many drafts each should verify in the next step; 0 for all while no drafts can come.
  std::vector<int> ChooseDrafts(absl::Span<const DraftLimit> limits);

  // Starts `plan` with drafts for `rows`, which belong to works of the plan, in the plan's order. A
  // proposal that breaks its contract costs that row its drafts and nothing else.
  StartedStep Start(StepPlan plan, absl::Span<const ProposalRow> rows);
  // Waits for the step that was started first. Errors are the executor's.
  absl::StatusOr<DecodedStep> Finish();

  // Why no drafts can come at present; empty if they can.
  std::string_view disabled_reason() const;
  absl::Duration proposal_deadline() const;

 private:
  // A row that was asked for drafts.
  struct AskedRow {
    SequenceId id = 0;
    int num_draft_tokens = 0;
  };
  struct Flight {
    StartedStep step;
    std::vector<AskedRow> asked;
    absl::Duration start;
  };

  void FillDrafts(absl::Span<const ProposalRow> rows, StepPlan& plan, StartedStep& step);
  void Learn(const std::vector<AskedRow>& asked, const DecodedStep& step);
  bool Usable(const std::vector<TokenId>& drafts, const ProposalRow& row) const;
  void RecordStep(absl::Duration pass);

  const SpeculationConfig config_;
  StepExecutor* const executor_;
  Proposer* const proposer_;
  const Clock* const clock_;
  LookaheadPolicy policy_;
  std::deque<Flight> flights_;  // oldest first
  absl::Duration last_finish_ = -absl::InfiniteDuration();
  absl::flat_hash_set<SequenceId> begun_;
  std::vector<absl::Duration> recent_steps_;  // a ring of the last decoding passes
  size_t next_recent_ = 0;
};

}  // namespace krait
