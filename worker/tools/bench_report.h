#pragma once

// What `bench decode` measured. Printed by bench_table.h and bench_json.h.

#include <cstdint>
#include <string>
#include <vector>

namespace krait {

// One batch size, without drafts.
struct BatchResult {
  int batch = 0;
  double step_seconds = 0;  // median
  double tokens_per_second = 0;
  double kv_bytes = 0;        // read a step, in the middle of the run
  double state_bytes = 0;     // read and written a step by recurrent layers
  double read_bandwidth = 0;  // bytes a second, median of passes between the runs; 0: no memory
};

// A kind of recurrent layers, all alike; bytes are of one sequence in one layer.
struct MixerResult {
  std::string name;  // "mamba1", "mamba2"
  int layers = 0;
  int fold_interval = 0;    // W; 0: the state is written every step
  int64_t state_bytes = 0;  // s
  int64_t entry_bytes = 0;  // i, of the ring of inputs
};

// What a step moves for the recurrent layers of one sequence, all layers together: counted by the
// ops that moved it.
struct StateResult {
  int num_draft_tokens = 0;    // K
  double tokens_per_step = 0;  // tau
  int num_steps = 0;           // that were counted; below, means over them
  double state_read = 0;
  double state_written = 0;
  double ring_read = 0;
  double ring_written = 0;
  double conv_bytes = 0;  // of the convolutions' rings, which snapshots need as well

  double of_states() const { return state_read + state_written + ring_read + ring_written; }
  // s (1 + tau / W) + i (W / 2 + K + 1) over the layers; 0 with other mixers than Mamba2.
  double Formula(const std::vector<MixerResult>& mixers) const;
  // Of one snapshot a token: the state read once and written K + 1 times.
  double Snapshots(const std::vector<MixerResult>& mixers) const;
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
  std::vector<MixerResult> mixers;  // empty without recurrent layers
  std::vector<StateResult> states;
  // Of a synthetic shape that was measured with fewer layers; 0: with all. States are of all layers
  // even so, everything else is of what was measured.
  int layers = 0;
  int all_layers = 0;
  int vocab_size = 0;
  int all_vocab_size = 0;

  double BytesPerSecond(const BatchResult& batch) const;
  // Of the read bandwidth measured in turns with its steps; 0 where that is not known.
  double BandwidthFraction(const BatchResult& batch) const;
};

// 0 of none.
double Median(std::vector<double> values);

}  // namespace krait
