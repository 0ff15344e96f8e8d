#pragma once

#include <functional>

#include "common/clock.h"
#include "coordinator/tools/load_call.h"
#include "coordinator/tools/load_recorder.h"
#include "coordinator/tools/request_source.h"

namespace krait {

// One stream of a load, from its call to its status. Owns itself: deleted when the call is done.
class LoadStream final : public LoadCall {
 public:
  // Starts the call. `stub`, `clock` and `recorder` must outlive it. `on_done` is the last thing
  // that happens, on one of gRPC's threads, when nothing of the call is left.
  static void Start(v1::GenerationService::Stub& stub, PlannedRequest planned,
                    absl::Duration intended, absl::Duration timeout, const Clock& clock,
                    LoadRecorder& recorder, std::function<void()> on_done);

 private:
  LoadStream(PlannedRequest planned, absl::Duration intended, const Clock& clock,
             LoadRecorder& recorder, std::function<void()> on_done);
  void OnResponse(const v1::GenerateResponse& response) override;
  void OnEnd(const grpc::Status& status) override;
  void CancelIfPlanned();

  const int cancel_after_tokens_;
  const Clock& clock_;
  LoadRecorder& recorder_;
  std::function<void()> on_done_;
  StreamResult result_;
};

}  // namespace krait
