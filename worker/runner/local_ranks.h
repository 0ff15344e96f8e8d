#pragma once

#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/comm/control_channel.h"
#include "worker/runner/process_report.h"
#include "worker/runner/rank_connector.h"
#include "worker/runner/rank_executor.h"
#include "worker/runner/rank_group_options.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// The ranks of a group that live in this process: a thread each, with its backend, communicator and
// runner. They load, then obey, until one of them fails or Fail is called: from then on nothing is
// done. One thread calls everything but Fail.
class LocalRanks {
 public:
  explicit LocalRanks(const RankGroupOptions& options);
  // Cancels what is under way.
  ~LocalRanks();
  LocalRanks(const LocalRanks&) = delete;

  // Makes the backends, UNAVAILABLE if a device is missing; then the ranks connect and load on
  // their threads. `config` and `checkpoint` stay until AwaitLoaded has returned. `processes` as
  // MakeRankConnector takes it.
  absl::Status Begin(const ModelConfig& config, const Checkpoint& checkpoint,
                     ProcessGroup* processes);
  absl::Status AwaitLoaded();
  // Of the ranks, once they have loaded.
  ProcessReport Report(const std::string& weights_digest) const;

  // Hands the plan to every rank. Nothing after an error, which Finish returns.
  void Start(std::shared_ptr<const StepPlan> plan);
  // The first rank's result of the plan that was started first; DEADLINE_EXCEEDED, for good, if it
  // takes longer.
  absl::StatusOr<StepResult> Finish(absl::Duration deadline);

  // Any thread. The first error counts; peers then fail too.
  void Fail(const absl::Status& status);
  absl::Status error() const;

  int size() const { return static_cast<int>(ranks_.size()); }
  const ModelRunner& runner(int index) const { return *ranks_[index].runner; }

 private:
  // What a rank does next: starts a plan, or finishes the one it started first.
  struct Order {
    std::shared_ptr<const StepPlan> plan;  // null: finish
  };
  // Its thread is the only one to touch it once it runs, but for `comm`.
  struct Rank {
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Communicator> comm;  // written under mutex_
    std::unique_ptr<ModelRunner> runner;
    std::unique_ptr<RankExecutor> executor;
  };

  absl::Status MakeBackends();
  void Run(int index);
  absl::Status Connect(int index);
  absl::Status Load(int index);
  void ObeyOrders(int index);
  absl::Status Obey(const Order& order, int index);
  void ReportProgress(int index, double fraction);
  bool IsLoaded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return unloaded_ == 0 || !error_.ok();
  }
  bool HasAnswer() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !results_.empty() || !error_.ok();
  }

  // Constant once the threads run.
  const RankGroupOptions options_;
  const Range own_;  // ranks; below, indices are of these
  const ModelConfig* config_ = nullptr;
  const Checkpoint* checkpoint_ = nullptr;
  std::unique_ptr<RankConnector> connector_;

  std::deque<int64_t> unfinished_;  // step ids; the caller's thread only
  ControlChannel<Order> channel_;
  std::vector<Rank> ranks_;

  mutable absl::Mutex mutex_;
  std::vector<double> loading_ ABSL_GUARDED_BY(mutex_);     // by rank, 0 to 1
  int unloaded_ ABSL_GUARDED_BY(mutex_);                    // ranks
  std::deque<StepResult> results_ ABSL_GUARDED_BY(mutex_);  // of finished steps, oldest first
  absl::Status error_ ABSL_GUARDED_BY(mutex_);              // the first
  std::vector<std::thread> threads_;
};

}  // namespace krait
