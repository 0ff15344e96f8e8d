#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/tools/bench_report.h"
#include "worker/tools/engine_flags.h"

namespace krait {

struct DecodeBenchOptions {
  EngineFlags flags;  // draft: also "self-trace" and "random" (bench_proposers.h)
  std::vector<int> batches = {1};
  int context = 32;              // tokens of a prompt
  int tokens = 128;              // generated a sequence
  int repeats = 5;               // pairs of runs with and without drafts
  bool rows = true;              // measure the cost of verifying 1 to 8 rows
  std::string synthetic;         // a shape (worker/models/model_shape.h) instead of a model
  int layers = 0;                // of the shape, and few token ids; 0: all
  double forced_acceptance = 1;  // of self-trace's drafts
};

// Runs real engines, one after the other, and times their steps. Errors are those of loading the
// model and of its steps; INVALID_ARGUMENT for a part of a shape that would leave out a kind of its
// recurrent layers.
absl::StatusOr<BenchReport> MeasureDecode(DecodeBenchOptions options);

}  // namespace krait
