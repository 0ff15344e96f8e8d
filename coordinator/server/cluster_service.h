#pragma once

#include "coordinator/admission/admission_controller.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/server/generation_service.h"
#include "krait/v1/cluster.grpc.pb.h"

namespace krait {

// The operators' API. Thread-safe.
class ClusterService final : public v1::ClusterService::CallbackService {
 public:
  // All outlive this. `on_drain`: an operator has asked this coordinator to drain.
  ClusterService(WorkerRegistry& registry, const AdmissionController& admission,
                 GenerationService& generation, std::function<void()> on_drain);

  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* call,
                                        const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* call,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* call,
                                    const v1::GetLoadRequest* request,
                                    v1::GetLoadResponse* response) override;

 private:
  WorkerRegistry& registry_;
  const AdmissionController& admission_;
  GenerationService& generation_;
  const std::function<void()> on_drain_;
};

}  // namespace krait
