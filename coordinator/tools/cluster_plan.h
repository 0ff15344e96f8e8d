#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/tools/arguments.h"
#include "krait/config.pb.h"

namespace krait {

// The flags of `krait up` that stand for a configuration file.
absl::Span<const FlagSpec> ClusterFlags();

// --config FILE, or a cluster made of flags: one target, and a draft if there is --draft-model.
// Flags on top of a file change its first target and the coordinator. INVALID_ARGUMENT names flag
// or field.
absl::StatusOr<ClusterConfig> MakeClusterConfig(const Arguments& arguments);

// Fills in what ties the processes together: names, ports, model names, which coordinator and which
// draft. Ports are fixed, so that a process that is started again is found where it was.
// `pick_port` returns a free TCP port of a host. INVALID_ARGUMENT names the field: no target, two
// workers of one name, no model.
absl::Status WireCluster(const std::function<absl::StatusOr<int>(const std::string&)>& pick_port,
                         ClusterConfig& config);

// Asks the kernel for a free port. UNAVAILABLE if the host is not this machine's.
absl::StatusOr<int> PickFreePort(const std::string& host);

}  // namespace krait
