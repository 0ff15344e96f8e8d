#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/request_limits.h"
#include "krait/internal/v1/worker.pb.h"
#include "krait/v1/cluster.pb.h"

namespace krait {

// What this coordinator serves; targets must agree.
struct ServedModel {
  std::string model;
  std::string tokenizer_digest;
};

// Names one life of one worker.
struct WorkerKey {
  std::string name;
  uint64_t epoch = 0;
  friend auto operator<=>(const WorkerKey&, const WorkerKey&) = default;
};

// A target worker as routing sees it.
struct WorkerView {
  WorkerKey key;
  std::string address;
  v1::WorkerLoad load;   // as of the last heartbeat
  int placed_since = 0;  // streams that we placed after it
  int streams = 0;       // of this coordinator, placed and not finished
  ModelLimits limits;
  // It runs and queues all that it takes, by our own count, which lags on the safe side: a stream
  // counts until its end has reached us. A worker that reports no limits is never full.
  bool full() const {
    return load.max_running() > 0 && streams >= load.max_running() + load.max_waiting();
  }
};

// Members of the cluster and their states:
//
//   Register -> JOINING -> READY -> DRAINING -> GONE -> (forgotten)
//
// A worker moves forward by what its heartbeats say, or by an operator's drain; a lease that is not
// renewed, or Deregister, makes it GONE; only a new registration, with a new and higher epoch,
// comes back. Time is passed in, nothing is called back: a pure state machine, thread-safe.
class WorkerRegistry {
 public:
  struct Options {
    ServedModel served;
    absl::Duration lease = absl::Seconds(3);
    // Epochs rise from here. A restarted coordinator passes a higher one, so that its workers can
    // tell its life from the one before.
    uint64_t first_epoch = 1;
  };
  explicit WorkerRegistry(Options options);

  // Returns the worker's new epoch; the instance that had the name before is fenced. The same
  // instance calling again keeps its epoch while its lease holds.
  // FAILED_PRECONDITION names both values when wire version, model, tokenizer digest (against
  // ours), build id or weights digest (against live targets) differ; ABORTED for a fenced instance
  // while its successor lives; RESOURCE_EXHAUSTED past 256 workers; INVALID_ARGUMENT names the
  // field.
  absl::StatusOr<uint64_t> Register(const internal::v1::RegisterRequest& request,
                                    absl::Duration now);

  // Renews the lease; true if the worker shall drain. ABORTED: register again.
  absl::StatusOr<bool> Heartbeat(const internal::v1::HeartbeatRequest& request, absl::Duration now);

  // Makes it GONE at once. ABORTED for an epoch that is not its latest.
  absl::Status Deregister(const WorkerKey& key, absl::Duration now);

  // Operator's wish: no new streams, and its next heartbeat tells it to drain. NOT_FOUND.
  absl::Status RequestDrain(const std::string& name);

  // Makes workers GONE whose leases ended by `now`, forgets those that have been GONE for a minute.
  // Returns the newly gone.
  std::vector<WorkerKey> ExpireLeases(absl::Duration now);

  // READY targets that may take a stream, by name. Without those reported unreachable.
  std::vector<WorkerView> Routable() const;

  // There are routable targets, and all are full.
  bool Full() const;

  // Streams that the routable targets can run at once, by what they report.
  int Capacity() const;

  // A stream was placed on / has left a worker. Unknown keys are ignored: it may be gone.
  void OnPlaced(const WorkerKey& key);
  void OnFinished(const WorkerKey& key);
  // Its transport failed: not routable until it has renewed its lease.
  void OnUnreachable(const WorkerKey& key);

  // By name, in every state.
  std::vector<v1::Worker> List() const;

  // What every live target allows; the last one known if none lives; empty before the first.
  std::optional<ModelLimits> Limits() const;
  // Of the first READY target; empty if there is none.
  std::string WeightsDigest() const;

 private:
  struct Member {
    v1::Worker worker;  // as listed: state, epoch and load are kept up to date
    std::string instance_id;
    ModelLimits limits;
    absl::Duration lease_end;
    absl::Duration gone_since;
    bool drain_requested = false;
    bool unreachable = false;
    int placed_since = 0;
    int streams = 0;
    std::deque<std::string> fenced;  // instances that this name belonged to before

    bool live() const { return worker.state() != v1::WORKER_STATE_GONE; }
    bool live_target() const { return live() && worker.role() == v1::WORKER_ROLE_TARGET; }
  };

  absl::Status CheckCompatible(const internal::v1::RegisterRequest& request) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckAgainstPeers(const v1::Worker& worker) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckNotFenced(const internal::v1::RegisterRequest& request) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Admit(const internal::v1::RegisterRequest& request, Member& member)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefreshLimits() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Member* Find(const WorkerKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static bool IsRoutable(const Member& member);
  static void MakeGone(Member& member, absl::Duration now);

  const Options options_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Member> members_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_epoch_ ABSL_GUARDED_BY(mutex_);
  std::optional<ModelLimits> limits_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
