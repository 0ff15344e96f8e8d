#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace krait {

struct ChildSpec {
  std::string name;
  std::vector<std::string> argv;
  std::string log_path;
};

// Keeps a list of processes alive: what dies is started again, after a pause that doubles from 0.2
// s to 10 s and starts over once a process has lived for 30 s. One thread; the caller polls.
class Supervisor {
 public:
  explicit Supervisor(std::vector<ChildSpec> specs);
  // Kills what still runs.
  ~Supervisor();

  absl::Status StartAll(absl::Duration now);

  // Reaps and restarts. Returns a line for each event, e.g. "draft-0: signal 9, starting again in
  // 0.2 s".
  std::vector<std::string> Poll(absl::Duration now);

  // The exit status (waitpid's) of the first child that ended with one of our codes for bad usage
  // or a bad model: starting it again would end the same way.
  std::optional<int> hopeless_status() const { return hopeless_status_; }
  const ChildSpec* hopeless_child() const { return hopeless_child_; }

  pid_t pid(const std::string& name) const;

  // SIGTERM to child 0 (the coordinator, which drains), then to the others once it has ended, each
  // at most `grace`; then SIGKILL. Returns when all have ended.
  void StopAll(absl::Duration grace);

 private:
  struct Child {
    ChildSpec spec;
    pid_t pid = -1;
    absl::Duration started;
    absl::Duration pause = absl::Milliseconds(200);
    absl::Duration restart_at = absl::InfiniteDuration();
  };

  absl::Status StartOne(Child& child, absl::Duration now);
  std::string OnExit(Child& child, int status, absl::Duration now);
  bool WaitEnded(Child& child, absl::Duration timeout);

  std::vector<Child> children_;
  std::optional<int> hopeless_status_;
  const ChildSpec* hopeless_child_ = nullptr;
};

}  // namespace krait
