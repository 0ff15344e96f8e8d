#pragma once

// What `bench decode` measured. Printed by bench_table.h and bench_json.h.

#include <string>
#include <vector>

namespace krait {

// One batch size, without drafts.
struct BatchResult {
  int batch = 0;
  double step_seconds = 0;  // median
  double tokens_per_second = 0;
  double kv_bytes = 0;        // read a step, in the middle of the run
  double read_bandwidth = 0;  // bytes a second, median of passes between the runs; 0: no memory
};

// Runs of one prompt in pairs, without and with drafts.
struct DraftResult {
  std::string draft;                 // as --draft names it
  std::vector<int> drafts_by_round;  // K of the first run's steps
  std::vector<double> ratios;        // tokens/s to K = 0, pair by pair; never empty
  double tokens_per_second = 0;      // median
  double plain_tokens_per_second = 0;
  double acceptance = 0;
  bool same_tokens = true;

  double MedianRatio() const;
};

struct BenchReport {
  int threads = 0;  // over all ranks
  int ranks = 0;
  std::string weight_dtype;
  // Bytes a second, of all passes; 0: no memory to measure it. Where other machines share the
  // memory, the best pass is a moment's luck, and only medians compare with medians.
  double read_bandwidth = 0;
  double best_read_bandwidth = 0;
  double weight_bytes = 0;  // read a step
  std::vector<BatchResult> batches;
  std::vector<double> row_seconds;  // of a step that verifies 1, 2, ... rows; empty: not measured
  std::vector<DraftResult> drafts;

  double BytesPerSecond(const BatchResult& batch) const;
  // Of the read bandwidth measured in turns with its steps; 0 where that is not known.
  double BandwidthFraction(const BatchResult& batch) const;
};

// 0 of none.
double Median(std::vector<double> values);

}  // namespace krait
