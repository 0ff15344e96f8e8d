#pragma once

#include "common/clock.h"
#include "coordinator/cluster/worker_pool.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/coordinator_metrics.h"
#include "krait/internal/v1/worker.grpc.pb.h"

namespace krait {

// Where workers register. Thread-safe.
class RegistryService final : public internal::v1::RegistryService::CallbackService {
 public:
  // All outlive this. `lease`: what the registry was made with; workers renew three times in it.
  RegistryService(const Clock& clock, absl::Duration lease, std::string coordinator_id,
                  WorkerRegistry& registry, CoordinatorMetrics& metrics);

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* call,
                                     const internal::v1::RegisterRequest* request,
                                     internal::v1::RegisterResponse* response) override;
  grpc::ServerUnaryReactor* Heartbeat(grpc::CallbackServerContext* call,
                                      const internal::v1::HeartbeatRequest* request,
                                      internal::v1::HeartbeatResponse* response) override;
  grpc::ServerUnaryReactor* Deregister(grpc::CallbackServerContext* call,
                                       const internal::v1::DeregisterRequest* request,
                                       internal::v1::DeregisterResponse* response) override;

 private:
  const Clock& clock_;
  const absl::Duration lease_;
  const std::string coordinator_id_;
  WorkerRegistry& registry_;
  CoordinatorMetrics& metrics_;
};

}  // namespace krait
