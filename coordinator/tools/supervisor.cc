#include "coordinator/tools/supervisor.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/build_info.h"
#include "common/status_macros.h"
#include "coordinator/tools/child_process.h"

namespace krait {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(200);
constexpr absl::Duration kLongestPause = absl::Seconds(10);
constexpr absl::Duration kHealthyAfter = absl::Seconds(30);

bool IsHopeless(int status) {
  return WIFEXITED(status) && (WEXITSTATUS(status) == kExitUsage ||
                               WEXITSTATUS(status) == kExitBadModel || WEXITSTATUS(status) == 127);
}

}  // namespace

Supervisor::Supervisor(std::vector<ChildSpec> specs) {
  for (ChildSpec& spec : specs) children_.push_back({.spec = std::move(spec)});
}

Supervisor::~Supervisor() {
  for (Child& child : children_) {
    if (child.pid > 0) kill(child.pid, SIGKILL);
    WaitEnded(child, absl::Seconds(10));
  }
}

absl::Status Supervisor::StartAll(absl::Duration now) {
  for (Child& child : children_) RETURN_IF_ERROR(StartOne(child, now));
  return absl::OkStatus();
}

absl::Status Supervisor::StartOne(Child& child, absl::Duration now) {
  ASSIGN_OR_RETURN(child.pid, StartChild(child.spec.argv, child.spec.log_path));
  child.started = now;
  child.restart_at = absl::InfiniteDuration();
  return absl::OkStatus();
}

std::string Supervisor::OnExit(Child& child, int status, absl::Duration now) {
  child.pid = -1;
  if (IsHopeless(status) && !hopeless_status_) {
    hopeless_status_ = status;
    hopeless_child_ = &child.spec;
  }
  if (now - child.started >= kHealthyAfter) child.pause = kFirstPause;
  child.restart_at = now + child.pause;
  const std::string line = absl::StrCat(child.spec.name, ": ", DescribeExit(status),
                                        ", starting again in ", absl::FormatDuration(child.pause));
  child.pause = std::min(2 * child.pause, kLongestPause);
  return line;
}

std::vector<std::string> Supervisor::Poll(absl::Duration now) {
  std::vector<std::string> events;
  for (Child& child : children_) {
    int status = 0;
    if (child.pid > 0 && waitpid(child.pid, &status, WNOHANG) == child.pid) {
      events.push_back(OnExit(child, status, now));
    }
    if (child.pid > 0 || now < child.restart_at) continue;
    const absl::Status started = StartOne(child, now);
    if (started.ok()) {
      events.push_back(absl::StrCat(child.spec.name, ": started, pid ", child.pid));
    } else {
      events.push_back(absl::StrCat(child.spec.name, ": ", started.ToString()));
      child.restart_at = now + kLongestPause;
    }
  }
  return events;
}

pid_t Supervisor::pid(const std::string& name) const {
  for (const Child& child : children_) {
    if (child.spec.name == name) return child.pid;
  }
  return -1;
}

bool Supervisor::WaitEnded(Child& child, absl::Duration timeout) {
  for (absl::Duration waited; child.pid > 0; waited += absl::Milliseconds(5)) {
    if (waitpid(child.pid, nullptr, WNOHANG) != 0) {
      child.pid = -1;
    } else if (waited >= timeout) {
      return false;
    } else {
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  return true;
}

void Supervisor::StopAll(absl::Duration grace) {
  const auto terminate = [](Child& child) {
    if (child.pid > 0) kill(child.pid, SIGTERM);
  };
  if (!children_.empty()) {
    terminate(children_[0]);
    WaitEnded(children_[0], grace);
  }
  for (Child& child : children_) terminate(child);
  for (Child& child : children_) {
    if (WaitEnded(child, grace)) continue;
    kill(child.pid, SIGKILL);
    WaitEnded(child, absl::Seconds(10));
  }
}

}  // namespace krait
