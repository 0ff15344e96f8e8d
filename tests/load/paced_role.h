#pragma once

#include <memory>
#include <string>

#include "tests/load/paced_engine.h"
#include "worker/server/served_role.h"
#include "worker/server/worker_server.h"
#include "worker/server/worker_service.h"

namespace krait {

// Role TARGET over a PacedEngine: a worker's real server, registration and service with the real
// vocabulary, and no model.
class PacedRole final : public ServedRole {
 public:
  PacedRole(const WorkerOptions& options, const PacedOptions& paced, const RoleParts& parts);

  NamedService service() override;
  absl::Status Load(const std::function<void(double)>& on_progress) override;
  void Describe(internal::v1::RegisterRequest& request) const override;
  void FillLoad(internal::v1::HeartbeatRequest& heartbeat) const override;
  void UpdateMetrics() override;
  void Drain() override { engine_->Drain(); }
  bool WaitIdle(absl::Duration timeout) override { return engine_->WaitIdle(timeout); }

 private:
  const WorkerOptions options_;
  const PacedOptions paced_;
  const Clock* const clock_;
  prometheus::Gauge& running_;
  prometheus::Gauge& waiting_;
  WorkerService service_;
  std::string tokenizer_digest_;
  int vocab_size_ = 0;
  std::unique_ptr<PacedEngine> engine_;
};

}  // namespace krait
