#pragma once

#include "coordinator/routing/routing_policy.h"

namespace krait {

// The worker after the last one chosen, by name. The plain twin: it looks at nothing else.
class RoundRobinPolicy final : public RoutingPolicy {
 public:
  size_t Select(absl::Span<const WorkerView> workers) override;

 private:
  std::string last_;
};

// The worker with the smallest share of its capacity in use: what it reported, and what we placed
// on it since. Ties go to fewer queued prompt tokens, then round robin, so that an idle cluster
// does not send everything to one.
class LeastLoadedPolicy final : public RoutingPolicy {
 public:
  size_t Select(absl::Span<const WorkerView> workers) override;

 private:
  RoundRobinPolicy ties_;
};

}  // namespace krait
