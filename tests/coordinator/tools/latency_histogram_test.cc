#include "coordinator/tools/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

namespace krait {
namespace {

TEST(LatencyHistogramTest, QuantilesAreThoseOfTheSortedSamplesToOnePercent) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<> draw(8, 2.5);  // us: from below 1 to above 10^7
  std::vector<int64_t> samples;
  const auto histogram = std::make_unique<LatencyHistogram>();
  for (int i = 0; i < 20'000; ++i) {
    samples.push_back(static_cast<int64_t>(draw(random)));
    histogram->Record(absl::Microseconds(samples.back()));
  }
  std::sort(samples.begin(), samples.end());
  for (const double q : {0.001, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(samples.size())));
    const auto expected = static_cast<double>(samples[rank - 1]);
    EXPECT_NEAR(absl::ToDoubleMicroseconds(histogram->Quantile(q)), expected, 0.005 * expected)
        << q;
  }
  EXPECT_EQ(histogram->max(), absl::Microseconds(samples.back()));
  EXPECT_EQ(histogram->count(), 20'000);
}

TEST(LatencyHistogramTest, OneSampleMayCountForSeveral) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  histogram->Record(absl::Microseconds(10), 3);
  histogram->Record(absl::Microseconds(100));
  EXPECT_EQ(histogram->count(), 4);
  EXPECT_EQ(histogram->Quantile(0.75), absl::Microseconds(10));
  EXPECT_EQ(histogram->Quantile(0.76), absl::Microseconds(100));
  EXPECT_EQ(histogram->mean(), absl::Microseconds(32.5));
}

TEST(LatencyHistogramTest, ExtremesStayInside) {
  const auto histogram = std::make_unique<LatencyHistogram>();
  EXPECT_EQ(histogram->Quantile(0.5), absl::ZeroDuration());
  histogram->Record(absl::Seconds(-1));
  EXPECT_EQ(histogram->Quantile(1), absl::ZeroDuration());
  histogram->Record(absl::Hours(10'000));
  EXPECT_GE(histogram->Quantile(1), absl::Hours(24 * 12));
}

}  // namespace
}  // namespace krait
