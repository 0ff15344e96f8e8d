#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "common/admin_server.h"
#include "common/metrics.h"
#include "worker/memory_metrics.h"
#include "worker/runner/rank_group.h"
#include "worker/worker_config.h"

namespace krait {

// A process of role TARGET that has ranks but not rank 0: it serves no requests and registers
// nowhere, it executes what process 0 sends. Made and run by one thread.
class Follower {
 public:
  // `on_fatal` is called, on any thread, when the group is lost and the process has to end.
  Follower(const WorkerOptions& options, std::function<void(const absl::Status&)> on_fatal);

  // Binds the admin port and writes the port file. UNAVAILABLE if either cannot be had.
  absl::Status Listen();
  // The errors of ServedRole::Load, and of RankGroup::Create.
  absl::Status Load(const std::function<void(double fraction)>& on_progress);
  // Until process 0 has ended: OK if in peace.
  absl::Status Run();

 private:
  const WorkerOptions options_;
  const std::function<void(const absl::Status&)> on_fatal_;
  Metrics metrics_;
  MemoryMetrics memory_;
  std::atomic<bool> ready_{false};
  std::unique_ptr<RankGroup> group_;
  std::unique_ptr<AdminServer> admin_server_;
};

}  // namespace krait
