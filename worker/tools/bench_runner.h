#pragma once

#include <memory>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "worker/engine/engine.h"
#include "worker/tools/null_observer.h"

namespace krait {

// Keeps the steps of the run in progress. Thread-safe.
class StepRecorder final : public NullObserver {
 public:
  void OnStep(const StepStats& stats) override {
    absl::MutexLock lock(&mutex_);
    steps_.push_back(stats);
  }
  std::vector<StepStats> Take() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(steps_, {});
  }

 private:
  absl::Mutex mutex_;
  std::vector<StepStats> steps_ ABSL_GUARDED_BY(mutex_);
};

struct BenchRun {
  std::vector<StepStats> steps;       // that decoded, and prefilled nothing
  std::vector<TokenId> first_output;  // of the first sequence

  double MedianStepSeconds() const;
  // Of all sequences together, over `steps`.
  double TokensPerSecond() const;
};

struct BenchWorkload {
  int batch = 1;
  int prompt_tokens = 32;
  int max_tokens = 128;
  int max_draft_tokens = 0;  // a round
};

// The prompt of a workload's sequence `index`: seeded random ids.
std::vector<TokenId> BenchPrompt(int vocab_size, int prompt_tokens, int index);

// Runs `batch` greedy generations together to their full length.
absl::StatusOr<BenchRun> RunWorkload(Engine& engine, StepRecorder& recorder,
                                     const BenchWorkload& workload);

}  // namespace krait
