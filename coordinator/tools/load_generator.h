#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "coordinator/tools/load_connections.h"
#include "coordinator/tools/load_options.h"
#include "coordinator/tools/load_recorder.h"
#include "coordinator/tools/request_source.h"

namespace krait {

// Plays a load against a coordinator: one thread starts streams, gRPC's threads read them.
//
// An open loop starts a request at the time its arrival is drawn for, whatever became of those
// before; if it comes late to it, the latency counts from the drawn time. A closed loop starts one
// when another ends.
class LoadGenerator {
 public:
  LoadGenerator(const LoadOptions& options, const Clock& clock);

  // UNAVAILABLE, with the address, if no connection stands after `timeout`.
  absl::Status Connect(absl::Duration timeout) { return connections_.Connect(timeout); }
  // Starts every request of `source` that the options ask for and waits until all have ended.
  void Run(RequestSource& source, LoadRecorder& recorder);

 private:
  bool Ended(int64_t num_started, absl::Duration time) const;
  // Waits for one of the streams to end if as many are open as may be. False: it is past `until`.
  bool AwaitSlot(absl::Duration until);
  void AwaitTime(absl::Duration time) const;
  void OnStreamDone();

  const LoadOptions options_;
  const Clock& clock_;
  LoadConnections connections_;
  absl::Duration end_ = absl::InfiniteDuration();  // of arrivals
  absl::Mutex mutex_;
  int num_open_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace krait
