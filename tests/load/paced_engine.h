#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "worker/engine/engine_interface.h"

namespace krait {

struct PacedOptions {
  absl::Duration step;      // between two steps; zero: as fast as tokens are taken
  int tokens_per_step = 1;  // of every running request
  int max_running = 64;
  int max_waiting = 256;
};

// An engine without a model, for load tests: every step gives every running request its next
// tokens, which depend on prompt, seed and position alone; a request has one choice. Queue, aborts,
// pauses, deadlines and drain are as in Engine, but for the limit on a pause. Thread-safe; one
// thread of its own.
class PacedEngine final : public EngineInterface {
 public:
  // `clock` outlives this.
  PacedEngine(const PacedOptions& options, const Clock* clock);
  ~PacedEngine() override;  // ends what runs with UNAVAILABLE

  absl::Status Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override;
  void Abort(const std::string& request_id, absl::Status reason) override;
  void StopChoice(const std::string& request_id, int choice) override;
  void Pause(const std::string& request_id) override;
  void Resume(const std::string& request_id) override;
  void Drain() override;
  bool WaitIdle(absl::Duration timeout) override;
  EngineLoad Load() const override;

 private:
  struct Live {
    GenerationRequest request;
    std::shared_ptr<TokenSink> sink;
    uint64_t hash = 0;  // of seed and prompt
    int num_sent = 0;
    bool running = false;
    bool paused = false;
    bool stopped = false;
    absl::Status aborted;  // not OK: to end with this at the next step
  };

  void Run();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || num_paused_ < static_cast<int>(live_.size());
  }
  void SetPaused(Live& live, bool paused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Admit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What this step does to every live request, to be done without the lock.
  std::vector<std::function<void()>> Step() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  TokenEvent NextTokens(Live& live) const;

  const PacedOptions options_;
  const Clock* const clock_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Live> live_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> waiting_ ABSL_GUARDED_BY(mutex_);
  int num_running_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_paused_ ABSL_GUARDED_BY(mutex_) = 0;
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace krait
