#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/runner/step_plan.h"

namespace krait {

// What runs a plan: all ranks of a model; in tests a script. Engine thread only.
class StepExecutor {
 public:
  virtual ~StepExecutor() = default;
  // As RankGroup has them. After any error it is unusable and the process must end.
  virtual void Start(std::shared_ptr<const StepPlan> plan) = 0;
  virtual absl::StatusOr<StepResult> Finish(absl::Duration deadline) = 0;
  // Whether a plan without drafts may be followed by the next one before it is finished.
  virtual bool runs_ahead() const = 0;
  virtual int vocab_size() const = 0;
  virtual int max_context_tokens() const = 0;
  virtual int num_state_slots() const = 0;  // 0: the model has no recurrent layers
};

}  // namespace krait
