#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/metrics.h"
#include "worker/memory_metrics.h"
#include "worker/server/draft_runner.h"
#include "worker/server/draft_service.h"
#include "worker/server/served_role.h"
#include "worker/worker_config.h"

namespace krait {

// Role DRAFT: a small model behind DraftService.
class DraftRole final : public ServedRole {
 public:
  // Pointers outlive this. `instance_id` names this process.
  DraftRole(const WorkerOptions& options, std::string instance_id, const Clock* clock,
            Metrics* metrics);

  NamedService service() override;
  absl::Status Load(const std::function<void(double)>& on_progress) override;
  void Describe(internal::v1::RegisterRequest& request) const override;
  void FillLoad(internal::v1::HeartbeatRequest& heartbeat) const override;
  void UpdateMetrics() override;
  // A draft has nothing to finish: without it, targets go on by themselves.
  void Drain() override {}
  bool WaitIdle(absl::Duration) override { return true; }

 private:
  const WorkerOptions options_;
  const Clock* const clock_;
  MemoryMetrics memory_;
  prometheus::Counter& rows_;
  prometheus::Counter& tokens_;
  prometheus::Counter& late_;
  DraftService service_;
  internal::v1::DescribeResponse description_;  // constant after Load
  std::string weights_digest_;
  std::unique_ptr<DraftRunner> runner_;

  absl::Mutex mutex_;
  DraftRunner::Counts exported_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
