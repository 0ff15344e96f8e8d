#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/owned_units.h"
#include "worker/comm/process_group.h"
#include "worker/models/model_config.h"
#include "worker/runner/model_runner.h"

namespace krait {

struct RankGroupOptions {
  std::string model_path;
  std::optional<ModelConfig> synthetic;  // of weights nobody trained, instead of model_path
  RopeScalingRule rope_scaling = RopeScalingRule::kByNames;
  int tensor_parallel_size = 1;  // ranks of all processes
  Device device;                 // rank r has the index + r; with CUDA there is one rank
  // Whether a step may be started before the last one is finished: by default on a device that
  // works while the host goes on.
  std::optional<bool> runs_ahead;
  int num_threads = 1;        // over the ranks of this process, at least one each
  ModelRunnerOptions runner;  // on_progress: called by rank threads, one at a time, over all of
                              // this process
  // With one process, all ranks are its threads. Otherwise process p of P hosts
  // OwnedUnits(tensor_parallel_size, p, P), and ranks meet over Gloo.
  ProcessGroupOptions processes;
  // Another process is lost, and so is the group: this process must end. Any thread.
  std::function<void(const absl::Status&)> on_lost;

  // Of this process.
  Range own_ranks() const {
    return OwnedUnits(tensor_parallel_size, processes.process_index, processes.num_processes);
  }
};

}  // namespace krait
