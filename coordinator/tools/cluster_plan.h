#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "krait/config.pb.h"

namespace krait {

// The options of `krait up`: a configuration file, or what stands for one. Absent: not given.
struct ClusterOptions {
  std::optional<std::string> config, model, model_name, device, weight_dtype, draft_model,
      draft_tokens;
  std::optional<std::string> listen, admin_listen, run_dir;
  std::optional<int> tp, processes, threads;
  bool ngram = false;
};

// Declares them.
void AddClusterOptions(CLI::App& app, ClusterOptions& options);

// --config FILE, or a cluster made of options: one target, and a draft if there is --draft-model.
// Options on top of a file change its first target and the coordinator. INVALID_ARGUMENT names
// option or field.
absl::StatusOr<ClusterConfig> MakeClusterConfig(const ClusterOptions& options);

// Fills in what ties the processes together: names, ports, model names, which coordinator and which
// draft. Ports are fixed, so that a process that is started again is found where it was.
// `pick_port` returns a free TCP port of a host. INVALID_ARGUMENT names the field: no target, two
// workers of one name, no model.
absl::Status WireCluster(const std::function<absl::StatusOr<int>(const std::string&)>& pick_port,
                         ClusterConfig& config);

// Asks the kernel for a free port. UNAVAILABLE if the host is not this machine's.
absl::StatusOr<int> PickFreePort(const std::string& host);

}  // namespace krait
