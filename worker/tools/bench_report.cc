#include "worker/tools/bench_report.h"

#include <algorithm>

namespace krait {

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

double StateResult::Formula(const std::vector<MixerResult>& mixers) const {
  double bytes = 0;
  for (const MixerResult& mixer : mixers) {
    if (mixer.fold_interval == 0) return 0;
    const double w = mixer.fold_interval;
    bytes += mixer.layers * (mixer.state_bytes * (1 + tokens_per_step / w) +
                             mixer.entry_bytes * (w / 2 + num_draft_tokens + 1));
  }
  return bytes;
}

double StateResult::Snapshots(const std::vector<MixerResult>& mixers) const {
  double bytes = 0;
  for (const MixerResult& mixer : mixers) {
    bytes += static_cast<double>(mixer.layers * mixer.state_bytes) * (num_draft_tokens + 2);
  }
  return bytes;
}

double DraftResult::MedianRatio() const { return Median(ratios); }

double BenchReport::BytesPerSecond(const BatchResult& batch) const {
  if (batch.step_seconds <= 0) return 0;
  return (weight_bytes + batch.kv_bytes + batch.state_bytes) / batch.step_seconds;
}

double BenchReport::BandwidthFraction(const BatchResult& batch) const {
  return batch.read_bandwidth > 0 ? BytesPerSecond(batch) / batch.read_bandwidth : 0;
}

}  // namespace krait
