#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "krait/internal/v1/worker.grpc.pb.h"
#include "worker/server/epoch_table.h"

namespace krait {

struct CoordinatorSessionOptions {
  internal::v1::RegisterRequest request;  // who this worker is
  // State, load and draft_connected at this moment; name and epoch are filled in. Any thread.
  std::function<internal::v1::HeartbeatRequest()> status;
  std::function<void()> on_drain;  // the coordinator asks this worker to drain; any thread
  absl::Duration call_timeout = absl::Seconds(2);
  absl::Duration min_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(2);
};

// Membership with one coordinator: registers, renews the lease, registers again when the
// coordinator has forgotten it or the lease has run out. While there is no lease there is no epoch,
// so that requests of a coordinator that has given this worker up are refused. One thread of its
// own.
class CoordinatorSession {
 public:
  // `epochs` outlives this.
  CoordinatorSession(std::string address, const CoordinatorSessionOptions& options,
                     EpochTable* epochs);
  // Stop(), then waits for the deregistration.
  ~CoordinatorSession();
  CoordinatorSession(const CoordinatorSession&) = delete;

  void Poke();  // heartbeat now
  void Stop();  // does not wait

 private:
  void Run();
  absl::Status Register();
  absl::Status Heartbeat();
  void Deregister();
  void Leave();
  void Report(const absl::Status& status);
  // Until poked or stopped; false: stop.
  bool WaitFor(absl::Duration duration);
  void SetDeadline(grpc::ClientContext& context) const;

  const std::string address_;
  const CoordinatorSessionOptions options_;
  EpochTable* const epochs_;
  const std::unique_ptr<internal::v1::RegistryService::Stub> stub_;

  // The session's thread only.
  uint64_t epoch_ = 0;  // 0: not registered
  absl::Duration lease_;
  absl::Duration heartbeat_interval_;
  absl::Time renewed_;
  std::string last_error_;

  absl::Mutex mutex_;
  bool poked_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace krait
