#include "coordinator/server/generation_session.h"

#include <grpc/grpc.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/failpoint.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/traceparent.h"

namespace krait {
namespace {

using internal::v1::TokenChunk;

constexpr absl::Duration kRetryDelay = absl::Seconds(1);
// Until the first worker has registered, nobody knows the model's context; the worker that gets the
// request checks again.
constexpr int kUnknownContext = 1 << 20;

absl::Duration TimeLeft(const grpc::CallbackServerContext& call,
                        const CoordinatorOptions& options) {
  const auto deadline = call.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return options.default_deadline;
  const absl::Duration left = absl::FromChrono(deadline - std::chrono::system_clock::now());
  return std::clamp(left, absl::ZeroDuration(), options.max_deadline);
}

std::string TraceId(const grpc::CallbackServerContext& call) {
  const auto found = call.client_metadata().find("traceparent");
  if (found == call.client_metadata().end()) return "";
  return std::string(TraceIdOf({found->second.data(), found->second.size()}));
}

// The failpoint coordinator.leak: 1 KiB a request.
void Leak() {
  char* volatile leaked = new char[1024];  // volatile: the compiler would leave it out
  (void)leaked;
}

ModelLimits LimitsOrGuess(const SessionContext& context) {
  return context.registry.Limits().value_or(
      ModelLimits{kUnknownContext, context.model.tokenizer().vocab_size()});
}

// Of its choice.
template <typename Message>
bool IsLast(const Message& message) {
  return message.finish_reason() != v1::FINISH_REASON_UNSPECIFIED;
}

Rejection ToRejection(AdmissionController::Refusal refusal) {
  return refusal == AdmissionController::Refusal::kTokens ? Rejection::kTokenBudget
                                                          : Rejection::kMaxRequests;
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
                                     grpc::CallbackServerContext* call,
                                     std::function<void()> on_done)
    : context_(context),
      call_(call),
      on_done_(std::move(on_done)),
      arrival_(context.clock.Now()),
      deadline_(arrival_ + TimeLeft(*call, context.options)),
      trace_id_(TraceId(*call)) {}

GenerationSession::~GenerationSession() = default;

void GenerationSession::Begin(const v1::GenerateRequest& request) {
  absl::MutexLock lock(&mutex_);
  SetNextLook();
  if (final_.has_value()) return;
  context_.retry_budget.OnRequest();
  absl::Status status = CheckDeadline();
  if (status.ok()) status = CheckRoom();
  if (status.ok()) status = Prepare(request);
  if (status.ok()) status = Admit();
  if (!status.ok()) return End(status);
  Place();
}

absl::Status GenerationSession::Prepare(const v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(request_, PrepareRequest(request, context_.model, LimitsOrGuess(context_)));
  ASSIGN_OR_RETURN(assembler_, ResponseAssembler::Create(context_.model, request_));
  last_token_.resize(request_.num_choices());
  return absl::OkStatus();
}

// Refuses now what would only be given up later, after it has waited in front of others.
absl::Status GenerationSession::CheckDeadline() {
  const absl::Duration now = context_.clock.Now();
  const absl::Duration left = deadline_ - now;
  if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("the deadline has passed");
  const absl::Duration wait = context_.wait_estimator.Estimate(context_.admission.load().requests,
                                                               context_.registry.Capacity());
  if (wait <= left) return absl::OkStatus();
  return Refuse(Rejection::kDeadline, absl::ResourceExhaustedError(absl::StrCat(
                                          "deadline: about ", absl::ToInt64Milliseconds(wait),
                                          " ms would pass before the request runs, and ",
                                          absl::ToInt64Milliseconds(left), " ms are left")));
}

// Refuses before the prompt is encoded: what is refused must cost next to nothing, or an overload
// takes the time from those that are served.
absl::Status GenerationSession::CheckRoom() {
  const absl::Status room = context_.admission.CheckRoom();
  if (!room.ok()) return Refuse(Rejection::kMaxRequests, room);
  if (!context_.registry.Full()) return absl::OkStatus();
  return Refuse(Rejection::kWorkersFull,
                absl::ResourceExhaustedError("max_waiting: every worker's queue is full"));
}

absl::Status GenerationSession::Admit() {
  AdmissionController::Refusal refusal;
  auto ticket = context_.admission.Admit(request_.num_tokens(), &refusal);
  if (!ticket.ok()) return Refuse(ToRejection(refusal), ticket.status());
  ticket_ = std::move(*ticket);
  context_.metrics.prompt_tokens.Observe(request_.num_prompt_tokens());
  return absl::OkStatus();
}

absl::Status GenerationSession::Refuse(Rejection reason, const absl::Status& why) {
  context_.metrics.rejected(reason).Increment();
  return RetryLaterError(ToStd(why.message()), kRetryDelay);
}

void GenerationSession::Place() {
  const std::optional<WorkerView> worker = context_.router.Place(tried_);
  if (!worker.has_value()) return Wait();
  const absl::Status fits = FitToLimits(worker->limits, request_);
  if (!fits.ok()) {
    context_.router.Finish(worker->key);
    return End(fits);
  }
  waiting_ = false;
  SetNextLook();
  ticket_.LeaveQueue();
  if (attempts_ == 0) {
    context_.metrics.queue_time.Observe(absl::ToDoubleSeconds(context_.clock.Now() - arrival_));
  } else {
    context_.metrics.retries.Increment();
  }
  StartAttempt(*worker);
}

void GenerationSession::Wait() {
  if (waiting_) return;
  // Workers that are there but full: waiting belongs to the client.
  if (absl::IsResourceExhausted(last_loss_)) {
    return End(RetryLaterError(ToStd(last_loss_.message()), kRetryDelay));
  }
  if (context_.registry.Full()) return End(CheckRoom());  // filled since Begin
  const absl::Status queued = ticket_.EnterQueue();
  if (!queued.ok()) return End(Refuse(Rejection::kMaxQueued, queued));
  waiting_ = true;
  waiting_since_ = context_.clock.Now();
  SetNextLook();
}

void GenerationSession::StartAttempt(const WorkerView& worker) {
  ++attempts_;
  read_paused_ = false;
  const absl::Duration left = std::max(deadline_ - context_.clock.Now(), absl::Milliseconds(1));
  request_.to_worker.set_epoch(worker.key.epoch);
  request_.to_worker.set_deadline_ms(absl::ToInt64Milliseconds(left));
  stream_ = context_.pool.Get(worker)->Generate(
      request_.to_worker, left,
      std::make_shared<Attempt>(shared_from_this(), attempts_, worker.key));
}

void GenerationSession::OnChunk(int attempt, const TokenChunk& chunk) {
  absl::MutexLock lock(&mutex_);
  if (attempt != attempts_ || final_.has_value()) return;
  const int num_tokens = assembler_->num_tokens();
  const int num_duplicates = assembler_->num_duplicates();
  auto response = assembler_->Accept(chunk);
  if (!response.ok()) return End(response.status());
  if (assembler_->num_tokens() > num_tokens) {
    RecordTokens(chunk.choice(), assembler_->num_tokens() - num_tokens);
  }
  context_.metrics.duplicate_tokens.Increment(assembler_->num_duplicates() - num_duplicates);
  const bool cut = response->has_value() && IsLast(**response) && !IsLast(chunk);
  if (response->has_value()) Relay(*std::move(*response));
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

// A first token counts once a request, a gap between two tokens lies within a choice.
void GenerationSession::RecordTokens(int choice, int count) {
  CoordinatorMetrics& metrics = context_.metrics;
  const absl::Duration now = context_.clock.Now();
  if (assembler_->num_tokens() == count) {
    metrics.time_to_first_token.Observe(absl::ToDoubleSeconds(now - arrival_));
  } else if (assembler_->num_tokens(choice) > count) {
    const double gap = absl::ToDoubleSeconds(now - last_token_[choice]) / count;
    for (int i = 0; i < count; ++i) metrics.inter_token_latency.Observe(gap);
  }
  last_token_[choice] = now;
}

void GenerationSession::ReadMore() {
  read_paused_ = BufferIsFull();
  if (!read_paused_) stream_->ReadNext();
}

bool GenerationSession::BufferIsFull() const {
  return pending_.num_tokens() >= context_.options.stream_buffer_tokens ||
         pending_.num_bytes() >= static_cast<size_t>(context_.options.stream_buffer_bytes);
}

void GenerationSession::OnStreamEnd(int attempt, const WorkerKey& worker,
                                    const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  const bool current = attempt == attempts_ && !final_.has_value();
  if (current && absl::IsUnavailable(status)) {
    context_.router.Lose(worker);
  } else {
    context_.router.Finish(worker);
  }
  if (attempt == attempts_) stream_.reset();
  if (current) HandleLoss(worker, status);
}

void GenerationSession::HandleLoss(const WorkerKey& worker, const absl::Status& status) {
  if (status.ok()) {
    return End(absl::InternalError("the worker ended the stream without a finish reason"));
  }
  if (!IsRetryable(status)) return End(status);
  LOG(WARNING) << "request_id=" << request_.to_worker.request_id() << " trace_id=" << trace_id_
               << " worker=" << worker.name << " epoch=" << worker.epoch
               << " tokens=" << assembler_->num_tokens() << " attempt=" << attempts_
               << " status=" << LogText(status.ToString());
  // A limit of a worker that is there: queues are full before the first token only.
  if (assembler_->num_tokens() > 0 && absl::IsResourceExhausted(status)) return End(status);
  if (assembler_->num_tokens() > 0) {
    context_.metrics.streams_broken.Increment();
    return End(absl::UnavailableError(
        absl::StrCat("the worker was lost after ", assembler_->num_tokens(), " tokens")));
  }
  tried_.insert(worker);
  last_loss_ = status;
  const bool may_retry = attempts_ < context_.options.max_attempts;
  if (may_retry && context_.retry_budget.TryRetry()) return Place();
  if (may_retry) context_.metrics.retries_denied.Increment();
  if (absl::IsResourceExhausted(status)) {
    return End(RetryLaterError(ToStd(status.message()), kRetryDelay));
  }
  End(absl::UnavailableError(absl::StrCat("no worker answered in ", attempts_, " attempts")));
}

void GenerationSession::Relay(v1::GenerateResponse response) {
  // What no write is waiting for leaves at once.
  const size_t bytes = writing_ ? response.ByteSizeLong() : 0;
  pending_.Push(std::move(response), bytes);
  Pump();
}

void GenerationSession::EndWith(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  End(status);
}

void GenerationSession::End(const absl::Status& status) {
  if (final_.has_value()) return;
  final_ = status;
  waiting_ = false;
  ticket_.LeaveQueue();
  if (stream_ != nullptr) stream_->Cancel();
  Pump();
}

// Starts the one write that may be in flight, or finishes when there is nothing left to write.
void GenerationSession::Pump() {
  if (writing_ || finished_) return;
  if (client_gone_) pending_.Clear();
  if (!pending_.empty()) {
    in_flight_ = pending_.Pop();
    writing_ = true;
    write_started_ = context_.clock.Now();
    SetNextLook();
    StartWrite(&in_flight_);
  } else if (final_.has_value()) {
    finished_ = true;
    LeaveAdmission();
    SetNextLook();
    Finish(ToGrpcStatus(*final_));
  }
}

void GenerationSession::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok) {
    client_gone_ = true;
    End(absl::CancelledError("the client went away"));
  }
  Pump();
  if (read_paused_ && stream_ != nullptr && !final_.has_value()) ReadMore();
}

void GenerationSession::OnCancel() {
  absl::MutexLock lock(&mutex_);
  client_gone_ = true;
  End(context_.clock.Now() >= deadline_ ? absl::DeadlineExceededError("deadline")
                                        : absl::CancelledError("cancelled by the client"));
  Pump();  // if End was called before: nothing more is written to a client that has gone
}

void GenerationSession::Poke() {
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = context_.clock.Now();
  if (now < next_look()) return;
  if (writing_ && now - write_started_ >= context_.options.slow_client_timeout) {
    return EndSlowClient();
  }
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
  LOG(WARNING) << "request_id=" << request_.to_worker.request_id() << " trace_id=" << trace_id_
               << " msg=\"client does not read, stream ended\"";
  context_.metrics.slow_clients.Increment();
  client_gone_ = true;
  const std::string why =
      absl::StrCat("slow_client_timeout_ms: the client read nothing for ",
                   absl::ToInt64Milliseconds(context_.options.slow_client_timeout), " ms");
  End(absl::ResourceExhaustedError(why));
  grpc_call_cancel_with_status(call_->c_call(), GRPC_STATUS_RESOURCE_EXHAUSTED, why.c_str(),
                               nullptr);
  next_look_ns_ = std::numeric_limits<int64_t>::max();
}

void GenerationSession::LeaveAdmission() {
  if (assembler_.has_value() && assembler_->num_tokens() > 0) {
    context_.wait_estimator.OnFinished(context_.admission.load().requests,
                                       context_.registry.Capacity(), context_.clock.Now());
  }
  ticket_.Release();
}

void GenerationSession::SetNextLook() {
  absl::Duration next = absl::InfiniteDuration();
  if (!final_.has_value()) next = waiting_ ? absl::ZeroDuration() : deadline_;
  if (writing_) next = std::min(next, write_started_ + context_.options.slow_client_timeout);
  next_look_ns_.store(absl::ToInt64Nanoseconds(next), std::memory_order_relaxed);
}

void GenerationSession::OnDone() {
  {
    absl::MutexLock lock(&mutex_);
    LogEnd();
  }
  const std::function<void()> on_done = on_done_;
  on_done();  // may delete this
}

void GenerationSession::LogEnd() {
  if (FailpointEnabled("coordinator.leak")) Leak();
  CoordinatorMetrics& metrics = context_.metrics;
  const absl::Status status = final_.value_or(absl::UnknownError("never ended"));
  const int num_tokens = assembler_.has_value() ? assembler_->num_tokens() : 0;
  const absl::Duration took = context_.clock.Now() - arrival_;
  metrics.CountRequest(Method::kGenerate, status.code());
  metrics.e2e_latency.Observe(absl::ToDoubleSeconds(took));
  if (num_tokens > 0) {
    metrics.generation_tokens.Observe(num_tokens);
  }
  if (status.ok())
    metrics.success(in_flight_.finish_reason() == v1::FINISH_REASON_STOP).Increment();
  VLOG(1) << "request_id=" << request_.to_worker.request_id() << " trace_id=" << trace_id_
          << " code=" << absl::StatusCodeToString(status.code())
          << " prompt_tokens=" << request_.num_prompt_tokens() << " tokens=" << num_tokens
          << " attempts=" << attempts_ << " seconds=" << absl::ToDoubleSeconds(took);
}

}  // namespace krait
