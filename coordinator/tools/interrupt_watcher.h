#pragma once

#include <grpcpp/client_context.h>
#include <pthread.h>

#include <atomic>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace krait {

// Makes Ctrl-C (SIGINT) cancel the call that runs; without one it ends the process with code 130,
// as an interrupted program does. Construct before any other thread exists: they inherit the
// blocked signal. One in a process.
class InterruptWatcher {
 public:
  InterruptWatcher();
  ~InterruptWatcher();  // SIGINT does again what it did before
  InterruptWatcher(const InterruptWatcher&) = delete;

  // The call that runs, between Watch and Unwatch. `context` must live until Unwatch.
  void Watch(grpc::ClientContext* context);
  void Unwatch();

 private:
  void Run();
  void OnInterrupt();

  sigset_t previous_mask_;
  std::atomic<bool> stopping_{false};
  absl::Mutex mutex_;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::thread thread_;
};

}  // namespace krait
