#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace krait {

using MetricLabels = std::map<std::string, std::string>;

// Bucket bounds, seconds unless said otherwise: vLLM's, so that dashboards convert by renaming,
// with finer ones in front where speculation makes ours faster.
const std::vector<double>& TimeToFirstTokenBuckets();
const std::vector<double>& InterTokenLatencyBuckets();
const std::vector<double>& RequestLatencyBuckets();  // end to end, queue, prefill, decode
const std::vector<double>& StepBuckets();            // one engine step, one draft round
const std::vector<double>& TokenCountBuckets();      // tokens of a request: 1-2-5 up to 100,000

// Owns every series of a process. All series are made at start, so they exist at 0; labels come
// from closed sets known at start. Returned references live as long as this object and are
// thread-safe to update. Add* are for start-up, but thread-safe; Serialize is thread-safe.
//
// Besides what is added, the process_* family, krait_build_info and krait_start_time_seconds are
// exported.
class Metrics {
 public:
  enum class Type { kCounter, kGauge, kHistogram };
  static constexpr int kMaxSeries = 2000;

  // `constant_labels` go on every series but process_*, e.g. {{"model_name", "SmolLM2"}}.
  explicit Metrics(MetricLabels constant_labels);
  Metrics(const Metrics&) = delete;

  // CHECK-fails if CheckMetricName objects, or if a label is a constant one: bugs in our code. The
  // same name with other labels adds a series to the family. At most kMaxSeries: what is added
  // beyond works but is not exported, and krait_metric_series_dropped_total counts it.
  prometheus::Counter& AddCounter(const std::string& name, const std::string& help,
                                  const MetricLabels& labels = {});
  prometheus::Gauge& AddGauge(const std::string& name, const std::string& help,
                              const MetricLabels& labels = {});
  prometheus::Histogram& AddHistogram(const std::string& name, const std::string& help,
                                      const std::vector<double>& buckets,
                                      const MetricLabels& labels = {});

  // Prometheus text format, version 0.0.4.
  std::string Serialize() const;

 private:
  MetricLabels WithConstant(const MetricLabels& labels) const;
  // Where the next series goes.
  prometheus::Registry& NextRegistry();

  const MetricLabels constant_labels_;
  prometheus::Registry registry_;
  prometheus::Registry dropped_;  // never exported
  std::atomic<int> num_series_{0};
  prometheus::Counter& num_dropped_;
};

// What promtool asks of a name and vLLM's habits allow: prefix krait_, [a-z0-9_], counters end in
// _total and nothing else does, histograms name their unit (_seconds, _tokens, _bytes, _rows).
absl::Status CheckMetricName(const std::string& name, Metrics::Type type);

}  // namespace krait
