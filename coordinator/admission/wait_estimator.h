#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace krait {

// How long a new request would wait before a worker runs it: those in front of it, times the time
// between two that leave while more are there than can run. Idle times teach it nothing, so a burst
// after a quiet night is not refused. Thread-safe; time is passed in.
class WaitEstimator {
 public:
  // A request that ran has ended. `in_flight` were admitted until then, `capacity` can run at once.
  void OnFinished(int in_flight, int capacity, absl::Duration now);

  // Zero while there is room, and until kMinSample intervals were seen: who knows nothing refuses
  // nobody.
  absl::Duration Estimate(int in_flight, int capacity) const;

  static constexpr int kMinSample = 16;

 private:
  mutable absl::Mutex mutex_;
  bool saturated_ ABSL_GUARDED_BY(mutex_) = false;  // after the last end
  absl::Duration last_end_ ABSL_GUARDED_BY(mutex_);
  absl::Duration mean_interval_ ABSL_GUARDED_BY(mutex_);  // weighted to the newest
  int num_intervals_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace krait
