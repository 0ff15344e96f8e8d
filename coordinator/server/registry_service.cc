#include "coordinator/server/registry_service.h"

#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
using internal::v1::DeregisterRequest;
using internal::v1::DeregisterResponse;
using internal::v1::HeartbeatRequest;
using internal::v1::HeartbeatResponse;
using internal::v1::RegisterRequest;
using internal::v1::RegisterResponse;

RegistryService::RegistryService(const Clock& clock, absl::Duration lease,
                                 std::string coordinator_id, WorkerRegistry& registry,
                                 CoordinatorMetrics& metrics)
    : clock_(clock),
      lease_(lease),
      coordinator_id_(std::move(coordinator_id)),
      registry_(registry),
      metrics_(metrics) {}

void RegistryService::ServeOn(ControlQueue& queue) {
  queue.Serve<RegistryService, RegisterRequest, RegisterResponse>(
      *this, &RegistryService::RequestRegister,
      [this](const grpc::ServerContext& call, const RegisterRequest& request,
             RegisterResponse& response) { return Register(call, request, response); });
  queue.Serve<RegistryService, HeartbeatRequest, HeartbeatResponse>(
      *this, &RegistryService::RequestHeartbeat,
      [this](const grpc::ServerContext&, const HeartbeatRequest& request,
             HeartbeatResponse& response) { return Heartbeat(request, response); });
  queue.Serve<RegistryService, DeregisterRequest, DeregisterResponse>(
      *this, &RegistryService::RequestDeregister,
      [this](const grpc::ServerContext&, const DeregisterRequest& request, DeregisterResponse&) {
        return Deregister(request);
      });
}

absl::Status RegistryService::Register(const grpc::ServerContext& call,
                                       const RegisterRequest& request, RegisterResponse& response) {
  const auto epoch = registry_.Register(request, clock_.Now());
  const v1::Worker& worker = request.worker();
  if (!epoch.ok()) {
    metrics_.registrations_refused.Increment();
    LOG(WARNING) << "worker=" << LogText(worker.name(), 128) << " peer=" << LogText(call.peer())
                 << " msg=\"registration refused\" status=" << LogText(epoch.status().ToString());
    return epoch.status();
  }
  metrics_.registrations_accepted.Increment();
  LOG(INFO) << "worker=" << worker.name() << " epoch=" << *epoch
            << " address=" << LogText(worker.address()) << " pid=" << worker.pid()
            << " msg=\"worker registered\"";
  response.set_epoch(*epoch);
  response.set_lease_ms(absl::ToInt64Milliseconds(lease_));
  response.set_heartbeat_interval_ms(absl::ToInt64Milliseconds(lease_) / 3);
  response.set_coordinator_id(coordinator_id_);
  return absl::OkStatus();
}

absl::Status RegistryService::Heartbeat(const HeartbeatRequest& request,
                                        HeartbeatResponse& response) {
  ASSIGN_OR_RETURN(const bool drain, registry_.Heartbeat(request, clock_.Now()));
  response.set_drain(drain);
  return absl::OkStatus();
}

absl::Status RegistryService::Deregister(const DeregisterRequest& request) {
  RETURN_IF_ERROR(registry_.Deregister({request.name(), request.epoch()}, clock_.Now()));
  LOG(INFO) << "worker=" << request.name() << " msg=\"worker left\"";
  return absl::OkStatus();
}

}  // namespace krait
