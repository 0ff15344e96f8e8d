#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/server/client_writer.h"
#include "coordinator/server/live_ids.h"
#include "coordinator/server/prepared_request.h"
#include "coordinator/server/response_assembler.h"
#include "coordinator/server/session_admission.h"
#include "coordinator/server/session_context.h"
#include "coordinator/server/session_record.h"
#include "coordinator/server/worker_attempts.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// One client stream, from its request to its one status:
//
//   Begin: check, refuse, encode, admit -> Place -> (Wait for a ready worker)* -> relay chunks ->
//   End
//
// A worker that fails before the first token is replaced by another, up to max_attempts. Exactly
// one place ends the stream (End), and exactly one calls gRPC's Finish (Pump, when no write is in
// flight): cancel, deadline, error and success may come in any order and at the same time.
//
// Memory: one message in gRPC's hands and, for each choice, one that collects what arrives
// meanwhile; when these are full together (stream_buffer_tokens, stream_buffer_kib), the worker is
// not read from. A client that takes nothing for slow_client_timeout loses its stream. Thread-safe;
// lock order: session, then the locks of router, registry and admission, which call nobody.
class GenerationSession final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                                public std::enable_shared_from_this<GenerationSession> {
 public:
  // Gives its id up before the client sees the end: whoever has seen it may use the id again.
  // `on_done` is called once, last, when gRPC has let go of the session.
  GenerationSession(const SessionContext& context, grpc::CallbackServerContext* call,
                    LiveIds::Claim id, std::function<void()> on_done);
  ~GenerationSession() override;

  // Starts the work; once.
  void Begin(const v1::GenerateRequest& request);
  // Ends the stream, unless it has ended.
  void EndWith(const absl::Status& status);
  // Looks at the time and at the cluster: deadlines, the wait for a worker, clients that do not
  // read. Called every now and then, and by tests with their own clock.
  void Poke();
  // Before this time Poke has nothing to do. Does not wait for the session's lock.
  absl::Duration next_look() const {
    return absl::Nanoseconds(next_look_ns_.load(std::memory_order_relaxed));
  }

 private:
  // Passes one placement's events on, with its number: a late event of an earlier one is dropped.
  class Attempt;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void OnChunk(int attempt, const internal::v1::TokenChunk& chunk);
  void OnStreamEnd(int attempt, const WorkerKey& worker, const absl::Status& status);

  absl::Status Prepare(const v1::GenerateRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Place() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Wait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartAttempt(const WorkerView& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandleLoss(const WorkerKey& worker, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::optional<v1::GenerateResponse>> Assemble(
      const internal::v1::TokenChunk& chunk) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndSlowClient() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetNextLook() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int num_tokens() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {  // delivered
    return assembler_.has_value() ? assembler_->num_tokens() : 0;
  }

  // Constant after construction.
  const SessionContext& context_;
  grpc::CallbackServerContext* const call_;
  const std::function<void()> on_done_;
  const absl::Duration deadline_;

  std::atomic<int64_t> next_look_ns_{0};
  absl::Mutex mutex_;
  LiveIds::Claim id_ ABSL_GUARDED_BY(mutex_);
  SessionRecord record_ ABSL_GUARDED_BY(mutex_);
  // The work.
  PreparedRequest request_ ABSL_GUARDED_BY(mutex_);
  std::optional<ResponseAssembler> assembler_ ABSL_GUARDED_BY(mutex_);
  SessionAdmission admission_ ABSL_GUARDED_BY(mutex_);
  WorkerAttempts attempts_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<WorkerStream> stream_ ABSL_GUARDED_BY(mutex_);  // of the current attempt
  bool read_paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration waiting_since_ ABSL_GUARDED_BY(mutex_);
  // The client's side.
  ClientWriter writer_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> final_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace krait
