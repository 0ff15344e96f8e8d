#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/metrics.h"
#include "worker/engine/engine.h"
#include "worker/server/epoch_table.h"
#include "worker/server/memory_plan.h"
#include "worker/server/served_role.h"
#include "worker/server/worker_service.h"
#include "worker/speculative/remote_proposer.h"
#include "worker/worker_config.h"
#include "worker/worker_metrics.h"

namespace krait {

// Role TARGET: an engine behind WorkerService.
class TargetRole final : public ServedRole {
 public:
  // Pointers outlive this. `instance_id` names this process; `on_drain` is called when a Drain RPC
  // comes; `on_fatal` on the engine thread when the process has to end.
  TargetRole(const WorkerOptions& options, std::string instance_id, const Clock* clock,
             Metrics* metrics, const EpochTable* epochs, std::function<void()> on_drain,
             std::function<void(const absl::Status&)> on_fatal);

  NamedService service() override;
  absl::Status Load(const std::function<void(double)>& on_progress) override;
  void Describe(internal::v1::RegisterRequest& request) const override;
  void FillLoad(internal::v1::HeartbeatRequest& heartbeat) const override;
  void UpdateMetrics() override;
  void Drain() override;
  bool WaitIdle(absl::Duration timeout) override;

 private:
  absl::StatusOr<std::unique_ptr<Proposer>> MakeDraft(const CachePlan& plan, int64_t vocab_size);
  absl::StatusOr<std::unique_ptr<Proposer>> MakeProposer(const CachePlan& draft,
                                                         int64_t vocab_size);
  EngineLoad Load() const;

  const WorkerOptions options_;
  const std::string instance_id_;
  const Clock* const clock_;
  const std::function<void(const absl::Status&)> on_fatal_;
  WorkerMetrics metrics_;
  WorkerService service_;
  std::string tokenizer_digest_;
  const RemoteProposer* remote_ = nullptr;  // the engine's, if it has one
  std::unique_ptr<Engine> engine_;          // constant after Load
};

}  // namespace krait
