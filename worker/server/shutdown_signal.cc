#include "worker/server/shutdown_signal.h"

#include <unistd.h>

namespace krait {

ShutdownSignal::ShutdownSignal() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this] { Run(); });
}

ShutdownSignal::~ShutdownSignal() {
  stopping_ = true;
  pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
}

int ShutdownSignal::Wait() {
  Expect();
  first_.WaitForNotification();
  return received_;
}

void ShutdownSignal::Run() {
  for (;;) {
    int signal_number = 0;
    sigwait(&signals_, &signal_number);
    if (stopping_) return;
    if (!waiting_ || received_ != 0) _exit(0);
    received_ = signal_number;
    first_.Notify();
  }
}

}  // namespace krait
