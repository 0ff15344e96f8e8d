#pragma once

#include <atomic>
#include <cstdint>

namespace krait {

// Where the ranks of one process meet, any number of times. A rank that waits polls for at most a
// few microseconds, about what waking a sleeping thread would cost, and then sleeps in the kernel.
// Thread-safe.
class ThreadBarrier {
 public:
  explicit ThreadBarrier(int num_threads) : num_threads_(static_cast<uint32_t>(num_threads)) {}

  // Returns true once every thread has arrived; everything they wrote before is then visible.
  // False, at once and for ever, after Abort.
  bool Arrive();
  // Wakes everyone. Any thread.
  void Abort();
  bool aborted() const { return aborted_.load(std::memory_order_acquire); }

 private:
  void AwaitChange(uint32_t round);

  const uint32_t num_threads_;
  // Apart, so that arriving does not disturb those that poll the round.
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};  // 32 bits: what the kernel can wait on
  std::atomic<bool> aborted_{false};
};

}  // namespace krait
