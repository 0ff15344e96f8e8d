#include "common/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/build_info.h"

namespace krait {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricNames, PrefixUnitAndTotalAreChecked) {
  using Type = Metrics::Type;
  EXPECT_TRUE(CheckMetricName("krait_tokens_total", Type::kCounter).ok());
  EXPECT_TRUE(CheckMetricName("krait_requests_running", Type::kGauge).ok());
  EXPECT_TRUE(CheckMetricName("krait_step_seconds", Type::kHistogram).ok());
  EXPECT_FALSE(CheckMetricName("tokens_total", Type::kCounter).ok());
  EXPECT_FALSE(CheckMetricName("krait_tokens", Type::kCounter).ok());
  EXPECT_FALSE(CheckMetricName("krait_running_total", Type::kGauge).ok());
  EXPECT_FALSE(CheckMetricName("krait_step", Type::kHistogram).ok());
  EXPECT_FALSE(CheckMetricName("krait_Step_seconds", Type::kHistogram).ok());
}

TEST(Metrics, SeriesExistAtZeroWithTheConstantLabels) {
  Metrics metrics(MetricLabels{{"model_name", "tiny"}});
  metrics.AddCounter("krait_tokens_total", "Tokens.", {{"kind", "prompt"}});
  metrics.AddHistogram("krait_step_seconds", "A step.", StepBuckets());
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("krait_tokens_total{kind=\"prompt\",model_name=\"tiny\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("krait_step_seconds_count{model_name=\"tiny\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE krait_tokens_total counter\n"));
}

TEST(MetricsDeathTest, ALabelMayNotHideAConstantOne) {
  Metrics metrics(MetricLabels{{"role", "coordinator"}});
  EXPECT_DEATH(metrics.AddGauge("krait_things", "Things.", {{"role", "target"}}), "label role");
}

TEST(Metrics, ProcessAndBuildAreExported) {
  const std::string text = Metrics(MetricLabels()).Serialize();
  EXPECT_THAT(text, HasSubstr("build_id=\"" + BuildId() + "\""));
  for (const char* name : {"process_cpu_seconds_total", "process_resident_memory_bytes",
                           "process_open_fds", "process_max_fds", "process_threads",
                           "process_start_time_seconds", "krait_start_time_seconds"}) {
    EXPECT_THAT(text, HasSubstr("\n" + std::string(name))) << name;
  }
}

TEST(Metrics, BucketBoundsRise) {
  for (const auto* bounds : {&TimeToFirstTokenBuckets(), &InterTokenLatencyBuckets(),
                             &RequestLatencyBuckets(), &StepBuckets(), &TokenCountBuckets()}) {
    EXPECT_TRUE(std::is_sorted(bounds->begin(), bounds->end(), std::less_equal<>()));
  }
  EXPECT_EQ(InterTokenLatencyBuckets().front(), 0.001);
}

TEST(Metrics, SeriesBeyondTheCapWorkButAreNotExported) {
  Metrics metrics(MetricLabels{});
  for (int i = 0; i < Metrics::kMaxSeries + 50; ++i) {
    metrics.AddCounter("krait_flood_total", "Too many.", {{"i", std::to_string(i)}}).Increment();
  }
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("krait_flood_total{i=\"0\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("i=\"2049\"")));
  // Its own, build_info and start_time are series too.
  EXPECT_THAT(text, HasSubstr("krait_metric_series_dropped_total 53\n"));
}

}  // namespace
}  // namespace krait
