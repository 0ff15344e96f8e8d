#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/cluster/worker_registry.h"

namespace krait {

// Chooses among workers that could take a stream. Pure but for what it remembers of its own
// choices; called under the router's lock.
class RoutingPolicy {
 public:
  virtual ~RoutingPolicy() = default;
  // Index into `workers`, which is not empty and sorted by name.
  virtual size_t Select(absl::Span<const WorkerView> workers) = 0;
};

// "round_robin" or "least_loaded". INVALID_ARGUMENT names the field and what there is.
absl::StatusOr<std::unique_ptr<RoutingPolicy>> MakeRoutingPolicy(const std::string& name);

}  // namespace krait
