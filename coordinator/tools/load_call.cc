#include "coordinator/tools/load_call.h"

#include <chrono>

namespace krait {

void LoadCall::Start(v1::GenerationService::Stub& stub, absl::Duration timeout, bool hold) {
  context_.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(timeout));
  stub.async()->Generate(&context_, &request_, this);
  if (hold) {
    held_ = true;
    AddHold();
  } else {
    StartRead(&response_);
  }
  StartCall();
}

void LoadCall::Release() {
  if (!held_.exchange(false)) return;
  StartRead(&response_);
  RemoveHold();
}

void LoadCall::OnReadDone(bool ok) {
  if (!ok) return;
  OnResponse(response_);
  StartRead(&response_);
}

}  // namespace krait
