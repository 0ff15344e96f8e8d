#include "worker/server/worker_service.h"

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/request_limits.h"
#include "common/status_macros.h"
#include "worker/server/generate_call.h"

namespace krait {
namespace {

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status Loading() { return absl::UnavailableError("the worker is loading its model"); }

}  // namespace

WorkerService::WorkerService(const Clock* clock, const EpochTable* epochs,
                             std::function<void()> on_drain)
    : clock_(clock), epochs_(epochs), on_drain_(std::move(on_drain)) {}

void WorkerService::SetEngine(EngineInterface* engine, ServedModel model) {
  model_ = std::move(model);
  engine_.store(engine, std::memory_order_release);
}

grpc::ServerWriteReactor<internal::v1::TokenChunk>* WorkerService::Generate(
    grpc::CallbackServerContext* context, const internal::v1::GenerateRequest* request) {
  EngineInterface* engine = engine_.load(std::memory_order_acquire);
  auto call = GenerateCall::Create(engine, request->request_id());
  // Before the engine can end it: gRPC cancels only after this function has returned.
  const absl::Status status = Submit(engine, *request, call);
  VLOG(1) << "request_id=" << LogText(request->request_id(), kMaxRequestIdBytes)
          << " prompt_tokens=" << request->prompt_token_ids_size()
          << " status=" << LogText(status.ToString());
  if (status.ok()) {
    call->SetAccepted();
  } else {
    call->OnEnd(status);
  }
  return call.get();
}

absl::Status WorkerService::Submit(EngineInterface* engine,
                                   const internal::v1::GenerateRequest& request,
                                   std::shared_ptr<TokenSink> sink) {
  if (engine == nullptr) return Loading();
  if (!epochs_->Accepts(request.epoch())) {
    return absl::AbortedError(absl::StrCat("epoch ", request.epoch(), " is not this worker's"));
  }
  ASSIGN_OR_RETURN(GenerationRequest parsed, FromProto(request, model_, clock_->Now()));
  return engine->Submit(std::move(parsed), std::move(sink));
}

grpc::ServerUnaryReactor* WorkerService::Abort(grpc::CallbackServerContext* context,
                                               const internal::v1::AbortRequest* request,
                                               internal::v1::AbortResponse*) {
  if (EngineInterface* engine = engine_.load(std::memory_order_acquire)) {
    engine->Abort(request->request_id(), absl::CancelledError("aborted by the coordinator"));
  }
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* WorkerService::StopChoice(grpc::CallbackServerContext* context,
                                                    const internal::v1::StopChoiceRequest* request,
                                                    internal::v1::StopChoiceResponse*) {
  if (EngineInterface* engine = engine_.load(std::memory_order_acquire)) {
    engine->StopChoice(request->request_id(), request->choice());
  }
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* WorkerService::GetLoad(grpc::CallbackServerContext* context,
                                                 const internal::v1::GetLoadRequest*,
                                                 v1::WorkerLoad* response) {
  EngineInterface* engine = engine_.load(std::memory_order_acquire);
  if (engine == nullptr) return Answer(context, Loading());
  *response = ToProto(engine->Load());
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* WorkerService::Drain(grpc::CallbackServerContext* context,
                                               const internal::v1::DrainRequest*,
                                               internal::v1::DrainResponse*) {
  on_drain_();
  return Answer(context, absl::OkStatus());
}

}  // namespace krait
