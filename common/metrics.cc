#include "common/metrics.h"

#include <prometheus/text_serializer.h>

#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/build_info.h"
#include "common/logging.h"
#include "common/process_metrics.h"

namespace krait {
namespace {

bool HasUnit(const std::string& name) {
  for (const char* unit : {"_seconds", "_tokens", "_bytes", "_rows"}) {
    if (absl::EndsWith(name, unit)) return true;
  }
  return false;
}

}  // namespace

// The first six are ours: speculation puts several tokens into one step of a few milliseconds.
const std::vector<double>& InterTokenLatencyBuckets() {
  static const auto& buckets = *new std::vector<double>{
      0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
      0.3,   0.4,   0.5,   0.75,  1,     2.5,    5,    7.5,   10,   20,    40,  80};
  return buckets;
}

const std::vector<double>& TimeToFirstTokenBuckets() {
  static const auto& buckets =
      *new std::vector<double>{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                               1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
  return buckets;
}

const std::vector<double>& RequestLatencyBuckets() {
  static const auto& buckets =
      *new std::vector<double>{0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5, 5,    10,
                               15,   20,   30,  40,  50,  60,  120, 240, 480, 960, 1920, 7680};
  return buckets;
}

const std::vector<double>& StepBuckets() {
  static const auto& buckets = *new std::vector<double>{
      0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05,
      0.075,  0.1,   0.15,  0.2,   0.3,   0.5,    1,    2.5,   5,    10,   60};
  return buckets;
}

const std::vector<double>& TokenCountBuckets() {
  static const auto& buckets = *new std::vector<double>{
      1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
  return buckets;
}

Metrics::Metrics(MetricLabels constant_labels)
    : constant_labels_(std::move(constant_labels)),
      num_dropped_(AddCounter("krait_metric_series_dropped_total",
                              "Series that are not exported because there are too many.")) {
  AddGauge("krait_build_info", "Version and build of this process; always 1.",
           {{"version", std::string(Version())}, {"build_id", BuildId()}})
      .Set(1);
  AddGauge("krait_start_time_seconds", "When this process started, seconds since the epoch.")
      .Set(ProcessStartTime());
}

prometheus::Counter& Metrics::AddCounter(const std::string& name, const std::string& help,
                                         const MetricLabels& labels) {
  CHECK_OK(CheckMetricName(name, Type::kCounter));
  return prometheus::BuildCounter()
      .Name(name)
      .Help(help)
      .Register(NextRegistry())
      .Add(WithConstant(labels));
}

prometheus::Gauge& Metrics::AddGauge(const std::string& name, const std::string& help,
                                     const MetricLabels& labels) {
  CHECK_OK(CheckMetricName(name, Type::kGauge));
  return prometheus::BuildGauge()
      .Name(name)
      .Help(help)
      .Register(NextRegistry())
      .Add(WithConstant(labels));
}

prometheus::Histogram& Metrics::AddHistogram(const std::string& name, const std::string& help,
                                             const std::vector<double>& buckets,
                                             const MetricLabels& labels) {
  CHECK_OK(CheckMetricName(name, Type::kHistogram));
  return prometheus::BuildHistogram()
      .Name(name)
      .Help(help)
      .Register(NextRegistry())
      .Add(WithConstant(labels), buckets);
}

std::string Metrics::Serialize() const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  for (auto& family : CollectProcessMetrics()) families.push_back(std::move(family));
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

MetricLabels Metrics::WithConstant(const MetricLabels& labels) const {
  MetricLabels all = constant_labels_;
  for (const auto& [name, value] : labels) {
    CHECK(all.emplace(name, value).second) << "label " << name << " stands on every series already";
  }
  return all;
}

prometheus::Registry& Metrics::NextRegistry() {
  if (++num_series_ <= kMaxSeries) return registry_;
  num_dropped_.Increment();
  return dropped_;
}

absl::Status CheckMetricName(const std::string& name, Metrics::Type type) {
  const auto error = [&](const char* reason) {
    return absl::InvalidArgumentError(absl::StrCat("metric ", name, ": ", reason));
  };
  if (!absl::StartsWith(name, "krait_")) return error("must begin with krait_");
  if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos) {
    return error("only a-z, 0-9 and _");
  }
  const bool total = absl::EndsWith(name, "_total");
  if (total != (type == Metrics::Type::kCounter)) {
    return error("counters, and nothing else, end in _total");
  }
  if (type == Metrics::Type::kHistogram && !HasUnit(name)) {
    return error("a histogram ends in its unit: _seconds, _tokens, _bytes or _rows");
  }
  return absl::OkStatus();
}

}  // namespace krait
