#include "coordinator/cluster/worker_pool.h"

namespace krait {

std::shared_ptr<WorkerClient> WorkerPool::Get(const WorkerView& worker) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<WorkerClient>& client = clients_[worker.key];
  if (client == nullptr) client = factory_.Create(worker.address);
  return client;
}

void WorkerPool::Close(const WorkerKey& key) {
  std::shared_ptr<WorkerClient> client;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = clients_.find(key);
    if (found == clients_.end()) return;
    client = std::move(found->second);
    clients_.erase(found);
  }
  client->Close();
}

void WorkerPool::Retain(const std::function<bool(const WorkerKey&)>& live) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(clients_, [&](const auto& entry) { return !live(entry.first); });
}

}  // namespace krait
