#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace krait {

// A distribution of latencies in fixed memory: buckets of at most 0.8 % of their value, from 1 us
// to 12 days. Recording is lock-free. Thread-safe; quantiles are exact once recording has ended.
class LatencyHistogram {
 public:
  // `times` samples of one value; negative values count as zero.
  void Record(absl::Duration latency, int64_t times = 1);

  int64_t count() const { return count_.load(std::memory_order_relaxed); }
  absl::Duration max() const { return absl::Microseconds(max_us_.load(std::memory_order_relaxed)); }
  absl::Duration mean() const;  // zero if empty
  // The least value that at least the share `q` of (0, 1] of all samples do not exceed (nearest
  // rank), to half a bucket. Zero if empty.
  absl::Duration Quantile(double q) const;

 private:
  static constexpr int kPrecisionBits = 7;
  static constexpr int kSubBuckets = 1 << kPrecisionBits;
  static constexpr int kValueBits = 40;

  static int BucketOf(uint64_t us);
  static double MiddleOf(int bucket);  // us

  std::array<std::atomic<int64_t>, (kValueBits - kPrecisionBits + 1) * kSubBuckets> buckets_{};
  std::atomic<int64_t> count_{0};
  std::atomic<int64_t> sum_us_{0};
  std::atomic<int64_t> max_us_{0};
};

}  // namespace krait
