#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace krait {

struct SelfProbeOptions {
  absl::Duration interval = absl::Seconds(1);
  absl::Duration timeout = absl::Seconds(1);  // of one probe
  int max_misses = 5;                         // in a row
};

// Calls this process's own health service over a new loopback connection at every interval, because
// a listener can die without anything else noticing (gRPC 1.51 never accepts again once accept()
// has run out of file descriptors). Any answer counts, also NOT_SERVING; that a server is busy is
// no miss, because the answer comes from its control queue.
class SelfProbe {
 public:
  // `on_dead` is called once, on the probe's thread, after max_misses; the default ends the process
  // at once with code 70, so that its supervisor starts it again.
  SelfProbe(std::string address, SelfProbeOptions options, std::function<void()> on_dead = {});
  // Stops and joins; at most one probe's time-out.
  ~SelfProbe();
  SelfProbe(const SelfProbe&) = delete;

 private:
  void Run();
  bool ProbeOnce() const;
  bool WaitForNext();  // false: stop

  const std::string address_;
  const SelfProbeOptions options_;
  const std::function<void()> on_dead_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace krait
