#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <utility>

#include "absl/time/time.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// One Generate call of a load, read from its start or from its release to its status.
class LoadCall : private grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  // Callbacks come from here on, before this has returned too. `stub` outlives the call. One that
  // is held reads nothing until Release.
  void Start(v1::GenerationService::Stub& stub, absl::Duration timeout, bool hold = false);
  // No effect on a call that is not held.
  void Release();
  // At any time before OnEnd, also before Start.
  void Cancel() { context_.TryCancel(); }

 protected:
  explicit LoadCall(v1::GenerateRequest request) : request_(std::move(request)) {}

  // On gRPC's threads, one after the other.
  virtual void OnResponse(const v1::GenerateResponse& response) = 0;
  // The last thing that happens; may delete this.
  virtual void OnEnd(const grpc::Status& status) = 0;

 private:
  void OnReadDone(bool ok) final;
  void OnDone(const grpc::Status& status) final { OnEnd(status); }

  const v1::GenerateRequest request_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  std::atomic<bool> held_{false};
};

}  // namespace krait
