#include "coordinator/routing/load_policies.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"

namespace krait {
namespace {

// Streams per thousand of max_running, in whole numbers so that ties are ties. Above 1,000: queued.
int64_t Load(const WorkerView& worker) {
  const int64_t streams =
      int64_t{worker.load.running()} + worker.load.waiting() + worker.placed_since;
  return streams * 1000 / std::max(1, worker.load.max_running());
}

auto Cost(const WorkerView& worker) {
  return std::tuple(Load(worker), worker.load.queued_tokens());
}

struct PolicyEntry {
  const char* name;
  std::unique_ptr<RoutingPolicy> (*make)();
};

template <typename Policy>
std::unique_ptr<RoutingPolicy> Make() {
  return std::make_unique<Policy>();
}

constexpr PolicyEntry kPolicies[] = {
    {"least_loaded", &Make<LeastLoadedPolicy>},
    {"round_robin", &Make<RoundRobinPolicy>},
};

}  // namespace

size_t RoundRobinPolicy::Select(absl::Span<const WorkerView> workers) {
  const auto next = std::find_if(workers.begin(), workers.end(),
                                 [&](const WorkerView& w) { return w.key.name > last_; });
  const size_t index = next == workers.end() ? 0 : next - workers.begin();
  last_ = workers[index].key.name;
  return index;
}

size_t LeastLoadedPolicy::Select(absl::Span<const WorkerView> workers) {
  const auto least =
      std::min_element(workers.begin(), workers.end(),
                       [](const auto& a, const auto& b) { return Cost(a) < Cost(b); });
  std::vector<WorkerView> tied;
  std::vector<size_t> indices;
  for (size_t i = 0; i < workers.size(); ++i) {
    if (Cost(workers[i]) != Cost(*least)) continue;
    tied.push_back(workers[i]);
    indices.push_back(i);
  }
  return indices[ties_.Select(tied)];
}

absl::StatusOr<std::unique_ptr<RoutingPolicy>> MakeRoutingPolicy(const std::string& name) {
  std::string known;
  for (const PolicyEntry& entry : kPolicies) {
    if (name == entry.name) return entry.make();
    absl::StrAppend(&known, known.empty() ? "" : " or ", entry.name);
  }
  return FieldError("routing_policy", absl::StrCat("must be ", known, ", got \"", name, "\""));
}

}  // namespace krait
