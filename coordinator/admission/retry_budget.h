#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace krait {

// Bounds second placements to a share of requests, so that a broken or overloaded cluster is not
// asked for a multiple of what clients ask. A bucket of retries: full at first, and each request
// adds its share. Thread-safe.
class RetryBudget {
 public:
  // `percent` of requests may be retries; `burst` may come at once.
  RetryBudget(int percent, int burst)
      : percent_(percent), capacity_(int64_t{burst} * kRetry), level_(capacity_) {}

  void OnRequest() {
    int64_t level = level_.load(std::memory_order_relaxed);
    while (level < capacity_ &&
           !level_.compare_exchange_weak(level, std::min(capacity_, level + percent_))) {
    }
  }
  // Takes one retry; false if there is none.
  bool TryRetry() {
    int64_t level = level_.load(std::memory_order_relaxed);
    while (level >= kRetry) {
      if (level_.compare_exchange_weak(level, level - kRetry)) return true;
    }
    return false;
  }

 private:
  static constexpr int64_t kRetry = 100;  // in percent of a request

  const int64_t percent_;
  const int64_t capacity_;
  std::atomic<int64_t> level_;
};

}  // namespace krait
