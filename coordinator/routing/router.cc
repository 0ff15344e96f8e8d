#include "coordinator/routing/router.h"

namespace krait {

std::optional<WorkerView> Router::Place(const std::set<WorkerKey>& tried) {
  absl::MutexLock lock(&mutex_);
  std::vector<WorkerView> workers = registry_.Routable();
  std::erase_if(workers, [&](const WorkerView& worker) {
    return worker.full() || tried.count(worker.key) > 0;
  });
  if (workers.empty()) return std::nullopt;
  WorkerView chosen = workers[policy_->Select(workers)];
  registry_.OnPlaced(chosen.key);
  return chosen;
}

void Router::Lose(const WorkerKey& key) {
  registry_.OnUnreachable(key);
  registry_.OnFinished(key);
}

}  // namespace krait
