#pragma once

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/control_queue.h"
#include "coordinator/cluster/worker_pool.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/coordinator_metrics.h"
#include "krait/internal/v1/worker.grpc.pb.h"

namespace krait {

// Where workers register. Answers on the control queue: a heartbeat that waited behind the streams
// would cost a lease, and with it the streams. Thread-safe.
class RegistryService final : public internal::v1::RegistryService::AsyncService {
 public:
  // All outlive this. `lease`: what the registry was made with; workers renew three times in it.
  RegistryService(const Clock& clock, absl::Duration lease, std::string coordinator_id,
                  WorkerRegistry& registry, CoordinatorMetrics& metrics);

  // Once, after the server was started.
  void ServeOn(ControlQueue& queue);

 private:
  absl::Status Register(const grpc::ServerContext& call,
                        const internal::v1::RegisterRequest& request,
                        internal::v1::RegisterResponse& response);
  absl::Status Heartbeat(const internal::v1::HeartbeatRequest& request,
                         internal::v1::HeartbeatResponse& response);
  absl::Status Deregister(const internal::v1::DeregisterRequest& request);

  const Clock& clock_;
  const absl::Duration lease_;
  const std::string coordinator_id_;
  WorkerRegistry& registry_;
  CoordinatorMetrics& metrics_;
};

}  // namespace krait
