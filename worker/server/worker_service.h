#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "krait/internal/v1/worker.grpc.pb.h"
#include "worker/engine/engine_interface.h"
#include "worker/server/epoch_table.h"
#include "worker/server/proto_conversion.h"

namespace krait {

// WorkerService over an engine. gRPC's threads stop here: they submit, abort and read the load, and
// none of that waits for a step. Thread-safe.
class WorkerService final : public internal::v1::WorkerService::CallbackService {
 public:
  // `on_drain` is called for every Drain RPC. Pointers outlive this.
  WorkerService(const Clock* clock, const EpochTable* epochs, std::function<void()> on_drain);

  // Until this is called, requests are answered UNAVAILABLE ("loading"). `engine` outlives all
  // calls.
  void SetEngine(EngineInterface* engine, ServedModel model);

  grpc::ServerWriteReactor<internal::v1::TokenChunk>* Generate(
      grpc::CallbackServerContext* context, const internal::v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const internal::v1::AbortRequest* request,
                                  internal::v1::AbortResponse* response) override;
  grpc::ServerUnaryReactor* StopChoice(grpc::CallbackServerContext* context,
                                       const internal::v1::StopChoiceRequest* request,
                                       internal::v1::StopChoiceResponse* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const internal::v1::GetLoadRequest* request,
                                    v1::WorkerLoad* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const internal::v1::DrainRequest* request,
                                  internal::v1::DrainResponse* response) override;

 private:
  absl::Status Submit(EngineInterface* engine, const internal::v1::GenerateRequest& request,
                      std::shared_ptr<TokenSink> sink);

  const Clock* const clock_;
  const EpochTable* const epochs_;
  const std::function<void()> on_drain_;
  ServedModel model_;  // constant once engine_ is set
  std::atomic<EngineInterface*> engine_{nullptr};
};

}  // namespace krait
