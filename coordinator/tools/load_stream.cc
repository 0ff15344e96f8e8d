#include "coordinator/tools/load_stream.h"

#include <utility>

namespace krait {

LoadStream::LoadStream(PlannedRequest planned, absl::Duration intended, const Clock& clock,
                       LoadRecorder& recorder, std::function<void()> on_done)
    : LoadCall(std::move(planned.request)),
      cancel_after_tokens_(planned.cancel_after_tokens),
      clock_(clock),
      recorder_(recorder),
      on_done_(std::move(on_done)) {
  result_.intended = intended;
  result_.started = clock_.Now();
}

void LoadStream::Start(v1::GenerationService::Stub& stub, PlannedRequest planned,
                       absl::Duration intended, absl::Duration timeout, const Clock& clock,
                       LoadRecorder& recorder, std::function<void()> on_done) {
  auto* stream = new LoadStream(std::move(planned), intended, clock, recorder, std::move(on_done));
  stream->CancelIfPlanned();
  stream->LoadCall::Start(stub, timeout);
}

void LoadStream::OnResponse(const v1::GenerateResponse& response) {
  if (const int tokens = response.token_ids_size(); tokens > 0) {
    const absl::Duration now = clock_.Now();
    recorder_.OnTokens(result_, tokens, now);
    if (result_.output_tokens == 0) result_.first = now;
    result_.last = now;
    result_.output_tokens += tokens;
    CancelIfPlanned();
  }
  if (response.has_usage()) result_.prompt_tokens = response.usage().prompt_tokens();
}

void LoadStream::CancelIfPlanned() {
  if (cancel_after_tokens_ < 0 || result_.cancelled) return;
  if (result_.output_tokens < cancel_after_tokens_) return;
  result_.cancelled = true;
  Cancel();
}

void LoadStream::OnEnd(const grpc::Status& status) {
  result_.ended = clock_.Now();
  result_.code = status.error_code();
  recorder_.OnDone(result_);
  // The call goes before its owner hears of it: the owner may then let the channel go, which must
  // not happen on a thread of gRPC's.
  const std::function<void()> on_done = std::move(on_done_);
  delete this;
  on_done();
}

}  // namespace krait
