#pragma once

#include <functional>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "worker/engine/engine_observer.h"

namespace krait::testing {

// What an engine did, in sums over its steps.
struct EngineCounts {
  int64_t steps = 0, draft_tokens = 0, accepted_tokens = 0, prefill_tokens = 0, malformed = 0;
  int64_t preemptions = 0, recomputed_tokens = 0;
  int64_t steps_ahead = 0;
  int64_t mixed_steps = 0;  // prefill, speculating and plain sequences shared them
  int64_t first_tokens = 0, non_finite = 0;
  std::map<int, std::map<int, int64_t>> accepted_of;  // drafts -> accepted -> steps
  std::map<absl::StatusCode, int64_t> finished;
};

// Counts on the engine's thread; may be read from any other.
class CountingObserver final : public EngineObserver {
 public:
  void OnStep(const StepStats& stats) override {
    {
      absl::MutexLock lock(&mutex_);
      Add(stats);
    }
    if (on_step) on_step(stats);
  }
  void OnAccepted(int position, bool accepted) override {}
  void OnFirstToken(absl::Duration since_submit) override {
    absl::MutexLock lock(&mutex_);
    ++counts_.first_tokens;
  }
  void OnInterToken(absl::Duration gap) override {}
  void OnFinished(const absl::Status& status, FinishReason reason, int prompt_tokens,
                  int completion_tokens, absl::Duration since_submit) override {
    absl::MutexLock lock(&mutex_);
    ++counts_.finished[status.code()];
  }
  void OnNonFinite() override {
    absl::MutexLock lock(&mutex_);
    ++counts_.non_finite;
  }

  EngineCounts counts() const {
    absl::MutexLock lock(&mutex_);
    return counts_;
  }
  // Waits, 10 s at most, until `enough` holds: a step is counted after its tokens were delivered.
  EngineCounts CountsOnce(absl::FunctionRef<bool(const EngineCounts&)> enough) const {
    absl::MutexLock lock(&mutex_);
    const auto holds = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return enough(counts_); };
    mutex_.AwaitWithTimeout(absl::Condition(&holds), absl::Seconds(10));
    return counts_;
  }
  void Reset() {
    absl::MutexLock lock(&mutex_);
    counts_ = {};
  }

  std::function<void(const StepStats&)> on_step;  // set before the engine starts

 private:
  void Add(const StepStats& stats) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    EngineCounts& c = counts_;
    ++c.steps;
    c.draft_tokens += stats.draft_tokens;
    c.accepted_tokens += stats.accepted_tokens;
    c.prefill_tokens += stats.prefill_tokens;
    c.preemptions += stats.preemptions;
    c.recomputed_tokens += stats.recomputed_tokens;
    c.malformed += stats.proposals.malformed;
    c.steps_ahead += stats.ran_ahead;
    c.mixed_steps +=
        stats.prefill_sequences > 0 && stats.speculating_sequences > 0 && stats.plain_sequences > 0;
    if (stats.speculating_sequences == 1) {
      ++c.accepted_of[stats.draft_tokens][stats.accepted_tokens];
    }
  }

  mutable absl::Mutex mutex_;
  EngineCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait::testing
