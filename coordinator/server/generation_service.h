#pragma once

#include <atomic>

#include "coordinator/server/generation_session.h"
#include "coordinator/server/live_ids.h"
#include "coordinator/server/session_table.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// The client API. Thread-safe; must outlive the server that it is registered with.
class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  // `context` outlives this.
  explicit GenerationService(const SessionContext& context) : context_(context) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* call, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* call,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* call,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* call,
                                         const v1::GetModelInfoRequest* request,
                                         v1::GetModelInfoResponse* response) override;

  // New generations are UNAVAILABLE from now on; those that run go on.
  void StartDraining();
  bool draining() const { return draining_; }
  SessionTable& sessions() { return sessions_; }

 private:
  // OK if `model` is empty or the served one. NOT_FOUND.
  absl::Status CheckModel(const std::string& model) const;
  // What refuses a request before it costs anything.
  absl::Status CheckEntry(const v1::GenerateRequest& request) const;
  absl::Status Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse& response) const;
  absl::Status Detokenize(const v1::DetokenizeRequest& request,
                          v1::DetokenizeResponse& response) const;
  grpc::ServerUnaryReactor* Answer(Method method, grpc::CallbackServerContext* call,
                                   const absl::Status& status);

  const SessionContext& context_;
  std::atomic<bool> draining_ = false;
  std::atomic<int64_t> next_session_ = 0;
  LiveIds live_ids_;
  SessionTable sessions_;  // they hold claims
};

}  // namespace krait
