#include "coordinator/server/cluster_service.h"

#include <unistd.h>

#include "common/build_info.h"
#include "common/grpc_status.h"

namespace krait {

ClusterService::ClusterService(WorkerRegistry& registry, const AdmissionController& admission,
                               GenerationService& generation, std::function<void()> on_drain)
    : registry_(registry),
      admission_(admission),
      generation_(generation),
      on_drain_(std::move(on_drain)) {}

grpc::ServerUnaryReactor* ClusterService::ListWorkers(grpc::CallbackServerContext* call,
                                                      const v1::ListWorkersRequest* request,
                                                      v1::ListWorkersResponse* response) {
  for (v1::Worker& worker : registry_.List()) *response->add_workers() = std::move(worker);
  response->set_coordinator_pid(getpid());
  response->set_coordinator_build_id(BuildId());
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* ClusterService::Drain(grpc::CallbackServerContext* call,
                                                const v1::DrainRequest* request,
                                                v1::DrainResponse* response) {
  absl::Status status;
  if (request->worker().empty()) {
    on_drain_();
  } else {
    status = registry_.RequestDrain(request->worker());
  }
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerUnaryReactor* ClusterService::GetLoad(grpc::CallbackServerContext* call,
                                                  const v1::GetLoadRequest* request,
                                                  v1::GetLoadResponse* response) {
  const AdmissionController::Load load = admission_.load();
  response->set_running(load.requests - load.queued);
  response->set_queued(load.queued);
  response->set_token_budget(admission_.options().token_budget);
  response->set_tokens_in_flight(load.tokens);
  response->set_draining(generation_.draining());
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace krait
