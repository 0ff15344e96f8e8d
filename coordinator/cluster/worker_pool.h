#pragma once

#include <functional>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/cluster/worker_client.h"
#include "coordinator/cluster/worker_registry.h"

namespace krait {

// The clients of the workers that streams were placed on: one for each life of a worker, so that
// closing an old life never touches the new one. Thread-safe.
class WorkerPool {
 public:
  explicit WorkerPool(WorkerClientFactory& factory) : factory_(factory) {}

  // Made at first use.
  std::shared_ptr<WorkerClient> Get(const WorkerView& worker);
  // Ends its streams and forgets it.
  void Close(const WorkerKey& key);
  // Forgets clients of workers that are not live any more, leaving their streams to end.
  void Retain(const std::function<bool(const WorkerKey&)>& live);

 private:
  WorkerClientFactory& factory_;
  absl::Mutex mutex_;
  std::map<WorkerKey, std::shared_ptr<WorkerClient>> clients_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
