#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/runner/model_runner.h"
#include "worker/runner/step_plan.h"

namespace krait {

// What every rank does with a plan: keeps a table of live sequences (tokens, page table, sampling),
// runs the pass, draws with its shard of the vocabulary, accepts the longest prefix of drafts that
// equal the draws, and commits. All ranks end with the same table.
//
// A rank that is alone draws on the device what can be drawn there (worker/sampling/draw_choice.h):
// then a step is started without waiting for its pass, and the next one may start before its draws
// are read, if it has no drafts. What it drew last is then known by its place only. Rank thread
// only.
class RankExecutor {
 public:
  // `runner` outlives this.
  explicit RankExecutor(ModelRunner* runner);
  ~RankExecutor();

  // How many steps may be started and not finished.
  static constexpr int kMaxStarted = 2;

  // INTERNAL if the plan contradicts the table (wrong step id, unknown sequence, tokens out of
  // range): the process must end. UNAVAILABLE if a peer is lost.
  absl::Status Start(const StepPlan& plan);
  // Of the step that was started first.
  StepResult Finish();
  // One after the other.
  absl::StatusOr<StepResult> Execute(const StepPlan& plan);

  int num_sequences() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
