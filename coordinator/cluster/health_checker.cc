#include "coordinator/cluster/health_checker.h"

#include <set>

#include "common/logging.h"

namespace krait {

HealthChecker::~HealthChecker() { Stop(); }

int HealthChecker::Sweep() {
  const std::vector<WorkerKey> gone = registry_.ExpireLeases(clock_.Now());
  for (const WorkerKey& key : gone) {
    LOG(WARNING) << "worker=" << key.name << " epoch=" << key.epoch
                 << " msg=\"lease ended, worker is gone\"";
    pool_.Close(key);
  }
  std::set<WorkerKey> live;
  for (const v1::Worker& worker : registry_.List()) {
    if (worker.state() != v1::WORKER_STATE_GONE) live.insert({worker.name(), worker.epoch()});
  }
  pool_.Retain([&](const WorkerKey& key) { return live.count(key) > 0; });
  return static_cast<int>(gone.size());
}

void HealthChecker::Start(absl::Duration interval, std::function<void()> sweep) {
  thread_ = std::thread([this, interval, sweep = std::move(sweep)] {
    for (;;) {
      {
        absl::MutexLock lock(&mutex_);
        if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), interval)) return;
      }
      sweep();
    }
  });
}

void HealthChecker::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace krait
