#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "krait/config.pb.h"

namespace krait {

// Completes a cluster's configuration so that its processes find each other, and find each other
// again after a restart: names ("target-0", "draft-0", ...), fixed ports from `pick_port` wherever
// a port is missing or 0, coordinator and model of every worker, and for every target without a
// source of drafts the first draft worker. INVALID_ARGUMENT names the field.
absl::Status CompleteClusterConfig(ClusterConfig& config, const std::function<int()>& pick_port);

}  // namespace krait
