#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/address.h"
#include "common/grpc_server.h"
#include "common/log_format.h"
#include "common/owned_units.h"
#include "kernels/core/device.h"
#include "kernels/core/dtype.h"
#include "krait/config.pb.h"
#include "worker/comm/comm_kind.h"
#include "worker/models/model_config.h"

namespace krait {

enum class WorkerRole { kTarget, kDraft };

// Where a target's drafts come from.
enum class DraftSource { kNone, kRemote, kModel, kNgram };

// A checked WorkerConfig with every default filled in. Made once in main, then const.
struct WorkerOptions {
  std::string name;  // empty: "<role>-<port>", known once the port is bound
  WorkerRole role = WorkerRole::kTarget;
  std::string model_path;
  std::string model_name;
  GrpcServerOptions grpc;
  std::string admin_listen;
  std::string advertise;  // empty: the bound address
  std::vector<std::string> coordinators;
  std::string port_file;
  LogOptions log;

  int tensor_parallel_size = 1;
  int processes = 1;
  int process_index = 0;
  HostPort group_address;  // of process 0; if processes > 1
  int threads = 1;         // over the ranks of this process
  Device device;
  std::optional<CommKind> comm;  // nothing: what fits
  DType weight_dtype = DType::kBF16;
  RopeScalingRule rope_scaling = RopeScalingRule::kByNames;
  int page_size = 16;
  int kv_cache_mib = 1024;
  int max_running = 64;
  int state_slots = 64;  // default: max_running
  int max_waiting = 256;
  int max_num_batched_tokens = 256;
  int max_context_tokens = 0;  // 0: the model's own
  int reserved_output_tokens = 1024;
  absl::Duration step_deadline;
  absl::Duration slow_reader_timeout;
  absl::Duration drain_timeout;

  DraftSource draft_source = DraftSource::kNone;
  std::string draft_address;
  std::string draft_model_path;
  int max_draft_tokens = 4;
  bool fixed_draft_tokens = false;
  absl::Duration proposal_deadline;  // zero: adapts to the step

  Range own_ranks() const { return OwnedUnits(tensor_parallel_size, process_index, processes); }
  const char* role_name() const { return role == WorkerRole::kTarget ? "target" : "draft"; }
};

// INVALID_ARGUMENT names the field, its value and the limit. `num_cores` is the default for
// threads.
absl::StatusOr<WorkerOptions> MakeWorkerOptions(const WorkerConfig& config, int num_cores);

}  // namespace krait
