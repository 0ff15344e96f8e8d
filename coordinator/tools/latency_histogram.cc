#include "coordinator/tools/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace krait {

// Values below kSubBuckets have a bucket each; above, each power of two has kSubBuckets of them.
int LatencyHistogram::BucketOf(uint64_t us) {
  us = std::min(us, (uint64_t{1} << kValueBits) - 1);
  if (us < kSubBuckets) return static_cast<int>(us);
  const int shift = std::bit_width(us) - kPrecisionBits - 1;
  return (shift + 1) * kSubBuckets + static_cast<int>((us >> shift) - kSubBuckets);
}

double LatencyHistogram::MiddleOf(int bucket) {
  if (bucket < kSubBuckets) return bucket;
  const int shift = bucket / kSubBuckets - 1;
  const double low = std::ldexp(kSubBuckets + bucket % kSubBuckets, shift);
  return low + (std::ldexp(1.0, shift) - 1) / 2;
}

void LatencyHistogram::Record(absl::Duration latency, int64_t times) {
  const int64_t us = std::max<int64_t>(absl::ToInt64Microseconds(latency), 0);
  buckets_[BucketOf(static_cast<uint64_t>(us))].fetch_add(times, std::memory_order_relaxed);
  count_.fetch_add(times, std::memory_order_relaxed);
  sum_us_.fetch_add(us * times, std::memory_order_relaxed);
  int64_t max = max_us_.load(std::memory_order_relaxed);
  while (max < us && !max_us_.compare_exchange_weak(max, us, std::memory_order_relaxed)) {
  }
}

absl::Duration LatencyHistogram::mean() const {
  if (count() == 0) return absl::ZeroDuration();
  return absl::Microseconds(static_cast<double>(sum_us_.load()) / static_cast<double>(count()));
}

absl::Duration LatencyHistogram::Quantile(double q) const {
  const auto rank = static_cast<int64_t>(std::ceil(q * static_cast<double>(count())));
  int64_t seen = 0;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    seen += buckets_[bucket].load(std::memory_order_relaxed);
    if (seen < rank || seen == 0) continue;
    return std::min(absl::Microseconds(MiddleOf(static_cast<int>(bucket))), max());
  }
  return max();
}

}  // namespace krait
