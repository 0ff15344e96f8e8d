#include "worker/server/generate_call.h"

#include <algorithm>

#include "common/grpc_status.h"
#include "worker/server/proto_conversion.h"

namespace krait {
namespace {

int NumEntries(const internal::v1::TokenChunk& chunk) {
  int entries = chunk.token_ids_size();
  for (const v1::PositionLogprobs& position : chunk.logprobs()) entries += 1 + position.top_size();
  return entries;
}

}  // namespace

std::shared_ptr<GenerateCall> GenerateCall::Create(EngineInterface* engine,
                                                   std::string request_id) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(engine, std::move(request_id)));
  call->self_ = call;
  return call;
}

void GenerateCall::SetAccepted() {
  absl::MutexLock lock(&mutex_);
  accepted_ = true;
  // The call may have been cancelled before its request was taken.
  if (!abort_reason_.ok()) AbortLocked(std::move(abort_reason_));
}

void GenerateCall::OnTokens(TokenEvent event) {
  absl::MutexLock lock(&mutex_);
  if (broken_) return;
  internal::v1::TokenChunk& chunk = PendingOf(event.choice);
  num_entries_ -= NumEntries(chunk);
  AppendTo(event, chunk);
  num_entries_ += NumEntries(chunk);
  SetPaused();
  Advance();
}

void GenerateCall::OnEnd(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  ended_ = true;
  end_status_ = status;
  Advance();
}

void GenerateCall::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  write_under_way_ = false;
  num_entries_ -= NumEntries(writing_);
  if (!ok) Break(absl::CancelledError("the client has gone"));
  SetPaused();
  Advance();
}

void GenerateCall::OnCancel() {
  absl::MutexLock lock(&mutex_);
  Break(absl::CancelledError("the call was cancelled"));
  Advance();
}

void GenerateCall::OnDone() {
  // Moved out first: the engine may let go of its reference before this returns.
  const std::shared_ptr<GenerateCall> last = std::move(self_);
}

internal::v1::TokenChunk& GenerateCall::PendingOf(int choice) {
  const auto it = std::find_if(pending_.begin(), pending_.end(),
                               [&](const auto& chunk) { return chunk.choice() == choice; });
  return it != pending_.end() ? *it : pending_.emplace_back();
}

// Nobody reads any more: what waits is dropped and the request ends.
void GenerateCall::Break(absl::Status reason) {
  broken_ = true;
  pending_.clear();
  AbortLocked(std::move(reason));
}

// While it stays paused, every write that ends pauses it anew: the client does read.
void GenerateCall::SetPaused() {
  if (broken_ || ended_) return;
  const bool was_paused = paused_;
  paused_ = num_entries_ > (was_paused ? kResumeEntries : kPauseEntries);
  if (paused_) {
    engine_->Pause(request_id_);
  } else if (was_paused) {
    engine_->Resume(request_id_);
  }
}

// Under the lock, so that the id cannot end and be taken by another request in between: OnEnd
// waits.
void GenerateCall::AbortLocked(absl::Status reason) {
  if (ended_) return;
  if (accepted_) {
    engine_->Abort(request_id_, std::move(reason));
  } else {
    abort_reason_ = std::move(reason);
  }
}

void GenerateCall::Advance() {
  if (write_under_way_ || finished_) return;
  if (!pending_.empty()) {
    writing_ = std::move(pending_.front());
    pending_.pop_front();
    write_under_way_ = true;
    StartWrite(&writing_);
  } else if (ended_) {
    finished_ = true;
    Finish(ToGrpcStatus(end_status_));
  }
}

}  // namespace krait
