#include "coordinator/server/registry_service.h"

#include "common/grpc_status.h"
#include "common/logging.h"

namespace krait {
namespace {

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* call, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

RegistryService::RegistryService(const Clock& clock, absl::Duration lease,
                                 std::string coordinator_id, WorkerRegistry& registry,
                                 CoordinatorMetrics& metrics)
    : clock_(clock),
      lease_(lease),
      coordinator_id_(std::move(coordinator_id)),
      registry_(registry),
      metrics_(metrics) {}

grpc::ServerUnaryReactor* RegistryService::Register(grpc::CallbackServerContext* call,
                                                    const internal::v1::RegisterRequest* request,
                                                    internal::v1::RegisterResponse* response) {
  const auto epoch = registry_.Register(*request, clock_.Now());
  const v1::Worker& worker = request->worker();
  if (!epoch.ok()) {
    metrics_.registrations_refused.Increment();
    LOG(WARNING) << "worker=" << LogText(worker.name(), 128) << " peer=" << LogText(call->peer())
                 << " msg=\"registration refused\" status=" << LogText(epoch.status().ToString());
    return Finish(call, epoch.status());
  }
  metrics_.registrations_accepted.Increment();
  LOG(INFO) << "worker=" << worker.name() << " epoch=" << *epoch
            << " address=" << LogText(worker.address()) << " pid=" << worker.pid()
            << " msg=\"worker registered\"";
  response->set_epoch(*epoch);
  response->set_lease_ms(absl::ToInt64Milliseconds(lease_));
  response->set_heartbeat_interval_ms(absl::ToInt64Milliseconds(lease_) / 3);
  response->set_coordinator_id(coordinator_id_);
  return Finish(call, absl::OkStatus());
}

grpc::ServerUnaryReactor* RegistryService::Heartbeat(grpc::CallbackServerContext* call,
                                                     const internal::v1::HeartbeatRequest* request,
                                                     internal::v1::HeartbeatResponse* response) {
  const auto drain = registry_.Heartbeat(*request, clock_.Now());
  if (drain.ok()) response->set_drain(*drain);
  return Finish(call, drain.status());
}

grpc::ServerUnaryReactor* RegistryService::Deregister(
    grpc::CallbackServerContext* call, const internal::v1::DeregisterRequest* request,
    internal::v1::DeregisterResponse* response) {
  const absl::Status status =
      registry_.Deregister({request->name(), request->epoch()}, clock_.Now());
  if (status.ok()) LOG(INFO) << "worker=" << request->name() << " msg=\"worker left\"";
  return Finish(call, status);
}

}  // namespace krait
