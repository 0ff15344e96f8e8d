#include "worker/server/generate_call.h"

#include <algorithm>

#include "common/grpc_status.h"
#include "worker/server/proto_conversion.h"

namespace krait {

std::shared_ptr<GenerateCall> GenerateCall::Create(EngineInterface* engine,
                                                   std::string request_id) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(engine, std::move(request_id)));
  call->self_ = call;
  return call;
}

void GenerateCall::SetAccepted() {
  absl::MutexLock lock(&mutex_);
  accepted_ = true;
  // The engine may have been quicker: it can overfill the buffer before its caller gets here.
  if (!abort_reason_.ok()) AbortLocked(std::move(abort_reason_));
}

void GenerateCall::OnTokens(TokenEvent event) {
  absl::MutexLock lock(&mutex_);
  if (broken_) return;
  AppendTo(event, PendingOf(event.choice));
  num_pending_tokens_ += static_cast<int>(event.token_ids.size());
  if (num_pending_tokens_ > kMaxBufferedTokens) {
    Break(absl::ResourceExhaustedError("the client does not read its stream"));
  }
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
  if (!ok) Break(absl::CancelledError("the client has gone"));
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
    num_pending_tokens_ -= writing_.token_ids_size();
    write_under_way_ = true;
    StartWrite(&writing_);
  } else if (ended_) {
    finished_ = true;
    Finish(ToGrpcStatus(end_status_));
  }
}

}  // namespace krait
