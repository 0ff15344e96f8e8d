#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/models/model_config.h"
#include "worker/runner/model_runner.h"
#include "worker/runner/step_plan.h"

namespace krait {

struct RankGroupOptions {
  std::string model_path;
  int tensor_parallel_size = 1;
  int num_threads = 1;        // over all ranks, at least one each
  ModelRunnerOptions runner;  // on_progress: called by rank threads, one at a time, over all ranks
};

// All ranks of this process: a thread each, with its backend, communicator and runner. Created,
// stepped and destroyed by one thread (the engine's).
class RankGroup {
 public:
  // Loads the model on all ranks at once. INVALID_ARGUMENT or NOT_FOUND names field or file, tensor
  // and reason (also a tensor that the model would ignore); RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<RankGroup>> Create(const RankGroupOptions& options);
  ~RankGroup();

  // Hands the plan to every rank and waits for rank 0's result. DEADLINE_EXCEEDED if it takes
  // longer than `deadline`; INTERNAL if ranks disagree on the plan's or (one step late) the draws'
  // hash. After any error the group is unusable and the process must end.
  absl::StatusOr<StepResult> Execute(std::shared_ptr<const StepPlan> plan, absl::Duration deadline);

  const ModelConfig& config() const;
  const std::string& weights_digest() const;
  int64_t weight_bytes() const;              // over all ranks
  int64_t kv_bytes_per_token() const;        // over all ranks
  int num_state_slots() const;               // 0 without recurrent layers
  int64_t state_bytes_per_slot() const;      // over all ranks
  // What recurrent layers have moved and copied so far, over all ranks; between steps only.
  StateTraffic state_traffic() const;
  int64_t num_state_copies() const;
  std::vector<std::string> devices() const;  // by rank, e.g. "cpu:0"

 private:
  RankGroup();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
