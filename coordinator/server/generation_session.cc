#include "coordinator/server/generation_session.h"

#include <grpc/grpc.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "coordinator/server/client_call.h"

namespace krait {
namespace {

using internal::v1::TokenChunk;

// Until the first worker has registered, nobody knows the model's context; the worker that gets the
// request checks again.
constexpr int kUnknownContext = 1 << 20;

ModelLimits LimitsOrGuess(const SessionContext& context) {
  return context.registry.Limits().value_or(
      ModelLimits{kUnknownContext, context.model.tokenizer().vocab_size()});
}

// A worker may still know an earlier attempt, or an earlier request of the same id that met a stop
// string, when the client has long seen its end: every attempt is somebody else to it.
std::string AttemptId(const std::string& request_id) {
  const std::string suffix = absl::StrFormat(":%016x", RandomBits());
  return request_id.substr(0, kMaxRequestIdBytes - suffix.size()) + suffix;
}

// Of its choice.
template <typename Message>
bool IsLast(const Message& message) {
  return message.finish_reason() != v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

class GenerationSession::Attempt final : public WorkerStreamObserver {
 public:
  Attempt(std::shared_ptr<GenerationSession> session, int number, WorkerKey worker)
      : session_(std::move(session)), number_(number), worker_(std::move(worker)) {}
  void OnChunk(TokenChunk chunk) override { session_->OnChunk(number_, chunk); }
  void OnEnd(const absl::Status& status) override {
    session_->OnStreamEnd(number_, worker_, status);
  }

 private:
  const std::shared_ptr<GenerationSession> session_;
  const int number_;
  const WorkerKey worker_;
};

GenerationSession::GenerationSession(const SessionContext& context,
                                     grpc::CallbackServerContext* call, LiveIds::Claim id,
                                     std::function<void()> on_done)
    : context_(context),
      call_(call),
      on_done_(std::move(on_done)),
      deadline_(context.clock.Now() + TimeLeft(*call, context.options)),
      id_(std::move(id)),
      record_(context, TraceIdOfCall(*call)),
      admission_(context, deadline_),
      attempts_(context),
      writer_(context.options) {}

GenerationSession::~GenerationSession() = default;

void GenerationSession::Begin(const v1::GenerateRequest& request) {
  absl::MutexLock lock(&mutex_);
  SetNextLook();
  if (final_.has_value()) return;
  context_.retry_budget.OnRequest();
  absl::Status status = admission_.CheckEntry();
  if (status.ok()) status = Prepare(request);
  if (status.ok()) status = admission_.Admit(request_);
  if (!status.ok()) return End(status);
  Place();
}

absl::Status GenerationSession::Prepare(const v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(request_, PrepareRequest(request, context_.model, LimitsOrGuess(context_)));
  ASSIGN_OR_RETURN(assembler_, ResponseAssembler::Create(context_.model, request_));
  return absl::OkStatus();
}

void GenerationSession::Place() {
  const std::optional<WorkerView> worker = context_.router.Place(attempts_.tried());
  if (!worker.has_value()) return Wait();
  const absl::Status fits = FitToLimits(worker->limits, request_);
  if (!fits.ok()) {
    context_.router.Finish(worker->key);
    return End(fits);
  }
  waiting_ = false;
  SetNextLook();
  admission_.LeaveQueue();
  StartAttempt(*worker);
}

void GenerationSession::Wait() {
  if (waiting_) return;
  // Workers that are there but full: waiting belongs to the client.
  const absl::Status& loss = attempts_.last_loss();
  if (absl::IsResourceExhausted(loss)) return End(ComeAgain(loss));
  if (context_.registry.Full()) return End(admission_.CheckRoom());  // filled since Begin
  const absl::Status queued = admission_.EnterQueue();
  if (!queued.ok()) return End(queued);
  waiting_ = true;
  waiting_since_ = context_.clock.Now();
  SetNextLook();
}

void GenerationSession::StartAttempt(const WorkerView& worker) {
  const int attempt = attempts_.Begin();
  record_.OnPlaced(attempt);
  read_paused_ = false;
  const absl::Duration left = std::max(deadline_ - context_.clock.Now(), absl::Milliseconds(1));
  request_.to_worker.set_request_id(AttemptId(request_.request_id));
  request_.to_worker.set_epoch(worker.key.epoch);
  request_.to_worker.set_deadline_ms(absl::ToInt64Milliseconds(left));
  stream_ = context_.pool.Get(worker)->Generate(
      request_.to_worker, left, std::make_shared<Attempt>(shared_from_this(), attempt, worker.key));
}

// What the chunk brings the client, counted.
absl::StatusOr<std::optional<v1::GenerateResponse>> GenerationSession::Assemble(
    const TokenChunk& chunk) {
  const int num_tokens = assembler_->num_tokens();
  const int num_duplicates = assembler_->num_duplicates();
  ASSIGN_OR_RETURN(auto response, assembler_->Accept(chunk));
  if (assembler_->num_tokens() > num_tokens) {
    record_.OnTokens(*assembler_, chunk.choice(), assembler_->num_tokens() - num_tokens);
  }
  context_.metrics.duplicate_tokens.Increment(assembler_->num_duplicates() - num_duplicates);
  return response;
}

void GenerationSession::OnChunk(int attempt, const TokenChunk& chunk) {
  absl::MutexLock lock(&mutex_);
  if (attempt != attempts_.count() || final_.has_value()) return;
  auto response = Assemble(chunk);
  if (!response.ok()) return End(response.status());
  const bool cut = response->has_value() && IsLast(**response) && !IsLast(chunk);
  if (response->has_value()) {
    writer_.Push(*std::move(*response));
    Pump();
  }
  if (!assembler_->complete()) {
    if (cut) stream_->StopChoice(chunk.choice());  // its worker knows nothing of stop strings
    return ReadMore();
  }
  if (assembler_->worker_complete()) {
    stream_->ReadNext();  // its status: a cancel would look like a client that went away
    stream_.reset();
  }
  End(absl::OkStatus());
}

void GenerationSession::ReadMore() {
  read_paused_ = writer_.full();
  if (!read_paused_) stream_->ReadNext();
}

void GenerationSession::OnStreamEnd(int attempt, const WorkerKey& worker,
                                    const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  const bool current = attempt == attempts_.count() && !final_.has_value();
  if (current && absl::IsUnavailable(status)) {
    context_.router.Lose(worker);
  } else {
    context_.router.Finish(worker);
  }
  if (attempt == attempts_.count()) stream_.reset();
  if (current) HandleLoss(worker, status);
}

void GenerationSession::HandleLoss(const WorkerKey& worker, const absl::Status& status) {
  if (status.ok()) {
    return End(absl::InternalError("the worker ended the stream without a finish reason"));
  }
  if (!IsRetryable(status)) return End(status);
  record_.OnLoss(request_, worker, attempts_.count(), num_tokens(), status);
  const absl::Status end = attempts_.OnLoss(worker, status, num_tokens());
  end.ok() ? Place() : End(end);
}

void GenerationSession::EndWith(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  End(status);
}

void GenerationSession::End(const absl::Status& status) {
  if (final_.has_value()) return;
  final_ = status;
  waiting_ = false;
  admission_.LeaveQueue();
  if (stream_ != nullptr) stream_->Cancel();
  Pump();
}

// Starts the one write that may be in flight, or finishes when there is nothing left to write.
void GenerationSession::Pump() {
  if (writer_.writing() || finished_) return;
  if (const v1::GenerateResponse* response = writer_.StartNext(context_.clock.Now())) {
    SetNextLook();
    StartWrite(response);
  } else if (final_.has_value()) {
    finished_ = true;
    admission_.Leave(/*served=*/num_tokens() > 0);
    SetNextLook();
    id_ = {};
    Finish(ToGrpcStatus(*final_));
  }
}

void GenerationSession::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  writer_.OnWriteDone();
  if (!ok) {
    writer_.Drop();
    End(absl::CancelledError("the client went away"));
  }
  Pump();
  if (read_paused_ && stream_ != nullptr && !final_.has_value()) ReadMore();
}

void GenerationSession::OnCancel() {
  absl::MutexLock lock(&mutex_);
  writer_.Drop();
  End(context_.clock.Now() >= deadline_ ? absl::DeadlineExceededError("deadline")
                                        : absl::CancelledError("cancelled by the client"));
  Pump();  // if End was called before: nothing more is written to a client that has gone
}

void GenerationSession::Poke() {
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = context_.clock.Now();
  if (now < next_look()) return;
  if (now >= writer_.stuck_at()) return EndSlowClient();
  if (final_.has_value()) return;
  if (now >= deadline_) return End(absl::DeadlineExceededError("the deadline has passed"));
  if (!waiting_) return;
  Place();
  if (waiting_ && now - waiting_since_ >= context_.options.queue_timeout) {
    context_.metrics.rejected(Rejection::kQueueTimeout).Increment();
    End(absl::UnavailableError(absl::StrCat("no ready worker within ",
                                            absl::FormatDuration(context_.options.queue_timeout))));
  }
}

// The write will never end by itself, and Finish waits behind it. Cancelling the call ends both and
// sends the status past the messages that nobody reads; TryCancel would send CANCELLED.
void GenerationSession::EndSlowClient() {
  record_.OnSlowClient(request_);
  writer_.Drop();
  const std::string why =
      absl::StrCat("slow_client_timeout_ms: the client read nothing for ",
                   absl::ToInt64Milliseconds(context_.options.slow_client_timeout), " ms");
  End(absl::ResourceExhaustedError(why));
  grpc_call_cancel_with_status(call_->c_call(), GRPC_STATUS_RESOURCE_EXHAUSTED, why.c_str(),
                               nullptr);
  next_look_ns_ = std::numeric_limits<int64_t>::max();
}

void GenerationSession::SetNextLook() {
  absl::Duration next = absl::InfiniteDuration();
  if (!final_.has_value()) next = waiting_ ? absl::ZeroDuration() : deadline_;
  next = std::min(next, writer_.stuck_at());
  next_look_ns_.store(absl::ToInt64Nanoseconds(next), std::memory_order_relaxed);
}

void GenerationSession::OnDone() {
  {
    absl::MutexLock lock(&mutex_);
    record_.OnEnd(request_, final_.value_or(absl::UnknownError("never ended")), num_tokens(),
                  attempts_.count(), writer_.last());
  }
  const std::function<void()> on_done = on_done_;
  on_done();  // may delete this
}

}  // namespace krait
