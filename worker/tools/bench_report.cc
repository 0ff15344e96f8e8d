#include "worker/tools/bench_report.h"

#include <algorithm>

namespace krait {

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

double DraftResult::MedianRatio() const { return Median(ratios); }

double BenchReport::BytesPerSecond(const BatchResult& batch) const {
  if (batch.step_seconds <= 0) return 0;
  return (weight_bytes + batch.kv_bytes) / batch.step_seconds;
}

double BenchReport::BandwidthFraction(const BatchResult& batch) const {
  return batch.read_bandwidth > 0 ? BytesPerSecond(batch) / batch.read_bandwidth : 0;
}

}  // namespace krait
