#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/owned_units.h"
#include "kernels/backend.h"
#include "worker/comm/comm_kind.h"
#include "worker/comm/nccl_api.h"
#include "worker/comm/process_group.h"
#include "worker/models/model_config.h"
#include "worker/runner/model_runner.h"

namespace krait {

struct RankGroupOptions {
  std::string model_path;
  std::optional<ModelConfig> synthetic;  // of weights nobody trained, instead of model_path
  RopeScalingRule rope_scaling = RopeScalingRule::kByNames;
  int tensor_parallel_size = 1;  // ranks of all processes
  Device device;                 // of rank 0; see DeviceOfRank
  std::optional<CommKind> comm;  // nothing: what fits
  // Whether a step may be started before the last one is finished: by default on a device that
  // works while the host goes on, if there is one rank (several draw on the host).
  std::optional<bool> runs_ahead;
  int num_threads = 1;        // over the ranks of this process, at least one each
  ModelRunnerOptions runner;  // on_progress: called by rank threads, one at a time, over all of
                              // this process
  // With one process, all ranks are its threads. Otherwise process p of P hosts
  // OwnedUnits(tensor_parallel_size, p, P).
  ProcessGroupOptions processes;
  // Another process is lost, and so is the group: this process must end. Any thread.
  std::function<void(const absl::Status&)> on_lost;

  // Of tests: stand-ins for GPUs. Null: what the build and the machine have.
  NcclApi* nccl = nullptr;
  std::function<absl::StatusOr<std::unique_ptr<Backend>>(Device, int num_threads)> make_backend;

  // A FieldError names comm if it does not go with the others.
  absl::StatusOr<CommKind> comm_kind() const {
    return ChooseComm(comm, device.kind, tensor_parallel_size, processes.num_processes);
  }
  // Of this process.
  Range own_ranks() const {
    return OwnedUnits(tensor_parallel_size, processes.process_index, processes.num_processes);
  }
};

// Where rank `rank` of all runs. CPUs: the index is a name. GPUs: the next of the `num_devices`
// that this process sees (0: nobody knows), again from the first where they end: ranks on several
// hosts, or of processes that see one GPU each, so get the right ones. Ranks of
// CommKind::kInProcess share one.
Device DeviceOfRank(const RankGroupOptions& options, CommKind kind, int64_t rank, int num_devices);

}  // namespace krait
