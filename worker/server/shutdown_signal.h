#pragma once

#include <signal.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"

namespace krait {

// SIGTERM and SIGINT as something to wait for. Made before any other thread starts, so that all
// inherit the blocked mask and only this one's thread sees the signals. A signal that comes before
// Wait (nothing has been served yet), or a second one, ends the process at once with code 0.
class ShutdownSignal {
 public:
  ShutdownSignal();
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;

  // From now on the first signal does not end the process: Wait will return it.
  void Expect() { waiting_ = true; }
  // Returns the signal's number.
  int Wait();

 private:
  void Run();

  sigset_t signals_;
  std::atomic<bool> waiting_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<int> received_{0};
  absl::Notification first_;
  std::thread thread_;
};

}  // namespace krait
