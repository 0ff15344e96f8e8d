#include "coordinator/tools/load_stream.h"

#include <chrono>
#include <utility>

namespace krait {

LoadStream::LoadStream(PlannedRequest planned, absl::Duration intended, const Clock& clock,
                       LoadRecorder& recorder, std::function<void()> on_done)
    : planned_(std::move(planned)),
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
  stream->context_.set_deadline(std::chrono::system_clock::now() +
                                absl::ToChronoMicroseconds(timeout));
  stub.async()->Generate(&stream->context_, &stream->planned_.request, stream);
  stream->CancelIfPlanned();
  stream->StartRead(&stream->response_);
  stream->StartCall();  // callbacks, and deletion, from here on
}

void LoadStream::OnReadDone(bool ok) {
  if (!ok) return;
  if (const int tokens = response_.token_ids_size(); tokens > 0) {
    const absl::Duration now = clock_.Now();
    recorder_.OnTokens(result_, tokens, now);
    if (result_.output_tokens == 0) result_.first = now;
    result_.last = now;
    result_.output_tokens += tokens;
    CancelIfPlanned();
  }
  if (response_.has_usage()) result_.prompt_tokens = response_.usage().prompt_tokens();
  StartRead(&response_);
}

void LoadStream::CancelIfPlanned() {
  if (planned_.cancel_after_tokens < 0 || result_.cancelled) return;
  if (result_.output_tokens < planned_.cancel_after_tokens) return;
  result_.cancelled = true;
  context_.TryCancel();
}

void LoadStream::OnDone(const grpc::Status& status) {
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
