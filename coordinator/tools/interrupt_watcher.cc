#include "coordinator/tools/interrupt_watcher.h"

#include <signal.h>
#include <unistd.h>

namespace krait {
namespace {

constexpr int kInterrupted = 130;  // 128 + SIGINT, the shells' convention

sigset_t InterruptSet() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

InterruptWatcher::InterruptWatcher() {
  const sigset_t set = InterruptSet();
  pthread_sigmask(SIG_BLOCK, &set, &previous_mask_);
  thread_ = std::thread([this] { Run(); });
}

InterruptWatcher::~InterruptWatcher() {
  stopping_ = true;
  pthread_kill(thread_.native_handle(), SIGINT);  // wakes sigwait
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
}

void InterruptWatcher::Watch(grpc::ClientContext* context) {
  absl::MutexLock lock(&mutex_);
  context_ = context;
}

void InterruptWatcher::Unwatch() { Watch(nullptr); }

void InterruptWatcher::Run() {
  const sigset_t set = InterruptSet();
  for (int signal = 0; sigwait(&set, &signal) == 0 && !stopping_;) OnInterrupt();
}

void InterruptWatcher::OnInterrupt() {
  absl::MutexLock lock(&mutex_);
  if (context_ == nullptr) _exit(kInterrupted);
  context_->TryCancel();
}

}  // namespace krait
