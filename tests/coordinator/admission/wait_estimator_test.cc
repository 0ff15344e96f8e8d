#include "coordinator/admission/wait_estimator.h"

#include <gtest/gtest.h>

namespace krait {
namespace {

constexpr int kCapacity = 4;

// `count` requests end `interval` apart while `in_flight` are there.
void EndMany(WaitEstimator& estimator, int count, int in_flight, absl::Duration interval,
             absl::Duration& now) {
  for (int i = 0; i < count; ++i) {
    now += interval;
    estimator.OnFinished(in_flight, kCapacity, now);
  }
}

TEST(WaitEstimatorTest, QueueTimesIntervalBetweenEnds) {
  WaitEstimator estimator;
  absl::Duration now;
  EndMany(estimator, 50, 20, absl::Milliseconds(100), now);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimator.Estimate(13, kCapacity)), 1.0, 1e-6);
  EXPECT_EQ(estimator.Estimate(kCapacity - 1, kCapacity), absl::ZeroDuration());
}

TEST(WaitEstimatorTest, KnowsNothingBeforeTheFirstSample) {
  WaitEstimator estimator;
  absl::Duration now;
  EndMany(estimator, WaitEstimator::kMinSample, 20, absl::Seconds(1), now);
  EXPECT_EQ(estimator.Estimate(1000, kCapacity), absl::ZeroDuration());
  EndMany(estimator, 1, 20, absl::Seconds(1), now);
  EXPECT_GT(estimator.Estimate(1000, kCapacity), absl::ZeroDuration());
}

TEST(WaitEstimatorTest, IdleTimesDoNotCount) {
  WaitEstimator estimator;
  absl::Duration now;
  EndMany(estimator, 50, 20, absl::Milliseconds(100), now);
  const absl::Duration busy = estimator.Estimate(13, kCapacity);
  EndMany(estimator, 1, kCapacity, absl::Milliseconds(100), now);  // nobody waits after this one
  EndMany(estimator, 50, 1, absl::Hours(1), now);
  EXPECT_EQ(estimator.Estimate(13, kCapacity), busy);
}

TEST(WaitEstimatorTest, FollowsAClusterThatSlowsDown) {
  WaitEstimator estimator;
  absl::Duration now;
  EndMany(estimator, 100, 20, absl::Milliseconds(10), now);
  EndMany(estimator, 500, 20, absl::Milliseconds(100), now);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimator.Estimate(13, kCapacity)), 1.0, 0.05);
}

}  // namespace
}  // namespace krait
