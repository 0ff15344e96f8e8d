#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/models/model_config.h"
#include "worker/runner/memory_use.h"
#include "worker/runner/process_report.h"
#include "worker/runner/rank_group_options.h"
#include "worker/runner/step_plan.h"

namespace krait {

// A model's ranks, seen from one of its processes: a thread each for those that are here, with its
// backend, communicator and runner. Process 0, which has rank 0, calls Execute; the others Follow.
// Created, stepped and destroyed by one thread (the engine's).
class RankGroup {
 public:
  // Loads the model on all ranks at once; returns when all processes have. INVALID_ARGUMENT or
  // NOT_FOUND names field or file, tensor and reason (also a tensor that the model would ignore);
  // RESOURCE_EXHAUSTED names the bytes; UNAVAILABLE if a process is missing or lost;
  // FAILED_PRECONDITION if another process could not load, or has other weights.
  static absl::StatusOr<std::unique_ptr<RankGroup>> Create(const RankGroupOptions& options);
  // Process 0 lets the others end, with OK.
  ~RankGroup();

  // Hands the plan to every rank. At most RankExecutor::kMaxStarted are started and not finished,
  // one unless the group runs ahead.
  void Start(std::shared_ptr<const StepPlan> plan);
  // Waits for rank 0's result of the plan that was started first. DEADLINE_EXCEEDED if it takes
  // longer than `deadline`; INTERNAL if ranks disagree on the plan's or (one step late) the draws'
  // hash; UNAVAILABLE if a process is lost. After any error the group is unusable and the process
  // must end.
  absl::StatusOr<StepResult> Finish(absl::Duration deadline);
  bool runs_ahead() const;
  // One after the other.
  absl::StatusOr<StepResult> Execute(std::shared_ptr<const StepPlan> plan, absl::Duration deadline);

  // Executes what process 0 sends. Returns OK when process 0 has ended in peace, otherwise the
  // errors of Execute.
  absl::Status Follow(absl::Duration step_deadline);

  const ModelConfig& config() const;
  const std::string& weights_digest() const;
  int64_t weight_bytes() const;                 // over all ranks
  int64_t kv_bytes_per_token() const;           // over all ranks
  int num_state_slots() const;                  // 0 without recurrent layers
  int64_t state_bytes_per_slot() const;         // over all ranks
  const std::vector<RankPlace>& ranks() const;  // of all processes, by rank
  MemoryUse memory() const;                     // over the ranks of this process
  // What recurrent layers have moved and copied so far, over the ranks of this process; between
  // steps only.
  StateTraffic state_traffic() const;
  int64_t num_state_copies() const;

 private:
  RankGroup();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
