#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "krait/internal/v1/worker.pb.h"
#include "worker/server/coordinator_session.h"
#include "worker/server/epoch_table.h"

namespace krait {

// Every address that one configured coordinator stands for: itself for "host:port", all addresses
// of the name for "dns:///name:port". Empty if the name does not resolve now. Blocks.
std::vector<std::string> ResolveCoordinator(const std::string& coordinator);

// Keeps this worker registered with every coordinator it is given, each with its own lease and
// epoch. Names are resolved again every 5 s: new addresses are joined, those that are gone are
// left.
class Registration {
 public:
  using Resolver = std::function<std::vector<std::string>(const std::string&)>;

  // Begins at once. `epochs` outlives this; `options.on_drain` may be called on any thread.
  Registration(std::vector<std::string> coordinators, CoordinatorSessionOptions options,
               EpochTable* epochs, Resolver resolver = ResolveCoordinator);
  // Deregisters from all, at most about a second.
  ~Registration();
  Registration(const Registration&) = delete;

  // Tells every coordinator the present state now, not at the next heartbeat.
  void Poke();

 private:
  void Run();
  void Refresh();
  void ReportUnresolved(const std::string& coordinator);
  bool WaitForNext();

  const std::vector<std::string> coordinators_;
  const CoordinatorSessionOptions options_;
  EpochTable* const epochs_;
  const Resolver resolver_;
  bool reported_unresolved_ = false;  // of thread_

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // By address.
  std::map<std::string, std::unique_ptr<CoordinatorSession>> sessions_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace krait
