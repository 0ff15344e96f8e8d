#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/runner/model_runner.h"
#include "worker/runner/step_plan.h"

namespace krait {

// What every rank does with a plan: keeps a table of live sequences (tokens, page table, sampling),
// runs the pass, draws with its shard of the vocabulary, accepts the longest prefix of drafts that
// equal the draws, and commits. All ranks end with the same table. Rank thread only.
class RankExecutor {
 public:
  // `runner` outlives this.
  explicit RankExecutor(ModelRunner* runner);
  ~RankExecutor();

  // INTERNAL if the plan contradicts the table (wrong step id, unknown sequence, tokens out of
  // range): the process must end. UNAVAILABLE if a peer is lost.
  absl::StatusOr<StepResult> Execute(const StepPlan& plan);

  int num_sequences() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
