#pragma once

#include <signal.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/tools/restart_backoff.h"

namespace krait {

// A process that is to be kept alive.
struct ProcessSpec {
  std::string name;
  std::vector<std::string> argv;
  std::string log_path;
  // Processes with the same unit, if it is not empty, live and die together: once one has died, the
  // others get kUnitGrace to end by themselves, then SIGKILL; then all are started again.
  std::string unit;
};

// Starts processes, starts those that die again, stops them in order. Main thread only: children
// are tied to the life of the thread that starts them.
class Supervisor {
 public:
  static constexpr absl::Duration kUnitGrace = absl::Seconds(1);

  // `clock` outlives this.
  explicit Supervisor(const Clock& clock) : clock_(clock) {}
  // Kills what is left.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;

  // UNAVAILABLE if it cannot be started.
  absl::Status Start(ProcessSpec spec);

  // Reaps what died and starts what is due; to be called often. Returns the exit code of a child
  // that will not get better by being started again (64 usage, 65 bad model), and `*name` of it.
  std::optional<int> Tick(std::string* name);

  // SIGTERM to `names`, waits until all are gone, at most `grace`, then SIGKILL. None is started
  // again. True if all ended by themselves.
  bool Stop(const std::vector<std::string>& names, absl::Duration grace);

  // 0 while it is not running.
  pid_t pid(const std::string& name) const;
  int restarts() const { return restarts_; }

 private:
  struct Child {
    ProcessSpec spec;
    pid_t pid = 0;
    bool wanted = true;
    absl::Duration started;
    absl::Duration restart_at;
    absl::Duration kill_at = absl::InfiniteDuration();
    RestartBackoff backoff;
  };

  absl::Status Launch(Child& child);
  void Relaunch(Child& child);
  // Of one process alone: itself.
  std::vector<Child*> UnitOf(Child& child);
  // Of `child`'s unit, every process is down, wanted, and its pause is over.
  bool IsDue(Child& child);
  // The raw wait status if the child has just ended.
  static std::optional<int> Reap(Child& child);
  std::optional<int> OnDeath(Child& child, int wait_status);

  const Clock& clock_;
  std::vector<Child> children_;
  int restarts_ = 0;
};

}  // namespace krait
