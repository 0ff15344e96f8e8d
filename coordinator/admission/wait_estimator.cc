#include "coordinator/admission/wait_estimator.h"

#include <algorithm>

namespace krait {
namespace {

constexpr int kMemory = 64;  // intervals

}  // namespace

void WaitEstimator::OnFinished(int in_flight, int capacity, absl::Duration now) {
  absl::MutexLock lock(&mutex_);
  if (saturated_) {
    num_intervals_ = std::min(num_intervals_ + 1, kMemory);
    mean_interval_ += (now - last_end_ - mean_interval_) / num_intervals_;
  }
  last_end_ = now;
  saturated_ = in_flight - 1 >= capacity;
}

absl::Duration WaitEstimator::Estimate(int in_flight, int capacity) const {
  const int ahead = in_flight - capacity;
  absl::MutexLock lock(&mutex_);
  if (ahead < 0 || num_intervals_ < kMinSample) return absl::ZeroDuration();
  return mean_interval_ * (ahead + 1);
}

}  // namespace krait
