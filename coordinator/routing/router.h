#pragma once

#include <memory>
#include <optional>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/routing/routing_policy.h"

namespace krait {

// Snapshot of the registry + policy. Thread-safe.
class Router {
 public:
  Router(WorkerRegistry& registry, std::unique_ptr<RoutingPolicy> policy)
      : registry_(registry), policy_(std::move(policy)) {}

  // A ready worker that is neither full nor in `tried`, counted as having one more stream; empty if
  // there is none. The caller reports the end to Finish.
  std::optional<WorkerView> Place(const std::set<WorkerKey>& tried);
  void Finish(const WorkerKey& key) { registry_.OnFinished(key); }
  // Finish, for a stream that was lost with its worker.
  void Lose(const WorkerKey& key);

 private:
  WorkerRegistry& registry_;
  absl::Mutex mutex_;  // one decision at a time, so that each sees the placement before it
  const std::unique_ptr<RoutingPolicy> policy_ ABSL_PT_GUARDED_BY(mutex_);
};

}  // namespace krait
