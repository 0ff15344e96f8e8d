#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>

#include "common/clock.h"
#include "coordinator/tools/load_recorder.h"
#include "coordinator/tools/request_source.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// One stream of a load, from its call to its status. Owns itself: deleted when the call is done.
class LoadStream final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  // Starts the call. `stub`, `clock` and `recorder` must outlive it. `on_done` is the last thing
  // that happens, on one of gRPC's threads, when nothing of the call is left.
  static void Start(v1::GenerationService::Stub& stub, PlannedRequest planned,
                    absl::Duration intended, absl::Duration timeout, const Clock& clock,
                    LoadRecorder& recorder, std::function<void()> on_done);

  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  LoadStream(PlannedRequest planned, absl::Duration intended, const Clock& clock,
             LoadRecorder& recorder, std::function<void()> on_done);
  void CancelIfPlanned();

  PlannedRequest planned_;
  const Clock& clock_;
  LoadRecorder& recorder_;
  std::function<void()> on_done_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  StreamResult result_;
};

}  // namespace krait
