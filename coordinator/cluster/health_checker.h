#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/cluster/worker_pool.h"
#include "coordinator/cluster/worker_registry.h"

namespace krait {

// Ends the leases that have run out: the worker is GONE and its streams are cut, so that a worker
// that hangs with its connections open holds nobody up. Sweep may be called from any one thread;
// tests call it with their own clock and never start the thread.
class HealthChecker {
 public:
  HealthChecker(const Clock& clock, WorkerRegistry& registry, WorkerPool& pool)
      : clock_(clock), registry_(registry), pool_(pool) {}
  ~HealthChecker();
  HealthChecker(const HealthChecker&) = delete;

  // Returns the number of workers that are newly gone.
  int Sweep();

  // Calls `sweep`, which is to call Sweep, at every interval on a thread of its own.
  void Start(absl::Duration interval, std::function<void()> sweep);
  void Stop();

 private:
  const Clock& clock_;
  WorkerRegistry& registry_;
  WorkerPool& pool_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace krait
