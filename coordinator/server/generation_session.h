#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/admission/admission_controller.h"
#include "coordinator/admission/retry_budget.h"
#include "coordinator/admission/wait_estimator.h"
#include "coordinator/cluster/worker_pool.h"
#include "coordinator/coordinator_config.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/routing/router.h"
#include "coordinator/server/prepared_request.h"
#include "coordinator/server/response_assembler.h"
#include "coordinator/server/response_queue.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// What every session works with; borrowed, thread-safe, outlives all sessions.
struct SessionContext {
  const Clock& clock;
  const CoordinatorOptions& options;
  const TextModel& model;
  WorkerRegistry& registry;
  AdmissionController& admission;
  RetryBudget& retry_budget;
  WaitEstimator& wait_estimator;
  Router& router;
  WorkerPool& pool;
  CoordinatorMetrics& metrics;
};

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
  // `on_done` is called once, last, when gRPC has let go of the session.
  GenerationSession(const SessionContext& context, grpc::CallbackServerContext* call,
                    std::function<void()> on_done);
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
  absl::Status CheckDeadline() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Admit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Place() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Wait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartAttempt(const WorkerView& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandleLoss(const WorkerKey& worker, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Relay(v1::GenerateResponse response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool BufferIsFull() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LeaveAdmission() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndSlowClient() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetNextLook() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RecordTokens(int choice, int count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Refuse(Rejection reason, const absl::Status& why);
  void LogEnd() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const SessionContext& context_;
  grpc::CallbackServerContext* const call_;
  const std::function<void()> on_done_;
  const absl::Duration arrival_;
  const absl::Duration deadline_;
  const std::string trace_id_;  // of the client's traceparent header; empty: none

  std::atomic<int64_t> next_look_ns_{0};
  absl::Mutex mutex_;
  // The work.
  PreparedRequest request_ ABSL_GUARDED_BY(mutex_);
  std::optional<ResponseAssembler> assembler_ ABSL_GUARDED_BY(mutex_);
  AdmissionTicket ticket_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<WorkerStream> stream_ ABSL_GUARDED_BY(mutex_);
  std::set<WorkerKey> tried_ ABSL_GUARDED_BY(mutex_);
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_paused_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status last_loss_ ABSL_GUARDED_BY(mutex_);
  absl::Duration waiting_since_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Duration> last_token_ ABSL_GUARDED_BY(mutex_);
  // The client's side.
  ResponseQueue pending_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateResponse in_flight_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration write_started_ ABSL_GUARDED_BY(mutex_);
  bool client_gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> final_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace krait
