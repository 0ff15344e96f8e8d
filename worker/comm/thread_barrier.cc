#include "worker/comm/thread_barrier.h"

#include <thread>

namespace krait {
namespace {

// Polls before sleeping: about 5 us. Ranks that each have a core arrive within microseconds of each
// other, twice a layer; always sleeping made a decode step of 30 layers up to a fifth longer, and
// polling for 50 us made it no shorter than this.
constexpr int kPolls = 200;

void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace

bool ThreadBarrier::Arrive() {
  // Read before looking at aborted_: an Abort in between changes the round, so it is never missed.
  const uint32_t round = round_.load(std::memory_order_acquire);
  if (aborted()) return false;
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_acq_rel);
    round_.notify_all();
  } else {
    AwaitChange(round);
  }
  return !aborted();
}

void ThreadBarrier::AwaitChange(uint32_t round) {
  for (int i = 0; i < kPolls; ++i) {
    if (round_.load(std::memory_order_acquire) != round) return;
    Relax();
  }
  round_.wait(round, std::memory_order_acquire);
}

void ThreadBarrier::Abort() {
  aborted_.store(true, std::memory_order_release);
  round_.fetch_add(1, std::memory_order_acq_rel);
  round_.notify_all();
}

}  // namespace krait
