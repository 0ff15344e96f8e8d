#include "coordinator/tools/supervisor.h"

#include <sys/wait.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/build_info.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/tools/child_process.h"

namespace krait {
namespace {

std::string Describe(int wait_status) {
  if (WIFSIGNALED(wait_status)) return absl::StrCat("signal ", WTERMSIG(wait_status));
  return absl::StrCat("exit code ", WEXITSTATUS(wait_status));
}

}  // namespace

Supervisor::~Supervisor() {
  std::vector<std::string> names;
  for (const Child& child : children_) names.push_back(child.spec.name);
  Stop(names, absl::ZeroDuration());
}

absl::Status Supervisor::Start(ProcessSpec spec) {
  Child child;
  child.spec = std::move(spec);
  RETURN_IF_ERROR(Launch(child));
  children_.push_back(std::move(child));
  return absl::OkStatus();
}

absl::Status Supervisor::Launch(Child& child) {
  ASSIGN_OR_RETURN(child.pid, StartChild(child.spec.argv, child.spec.log_path));
  child.started = clock_.Now();
  child.kill_at = absl::InfiniteDuration();
  return absl::OkStatus();
}

std::optional<int> Supervisor::Tick(std::string* name) {
  for (Child& child : children_) {
    if (const auto wait_status = Reap(child)) {
      *name = child.spec.name;
      if (const auto code = OnDeath(child, *wait_status)) return code;
    }
    if (child.pid != 0 && clock_.Now() >= child.kill_at) kill(child.pid, SIGKILL);
  }
  for (Child& child : children_) {
    if (!IsDue(child)) continue;
    for (Child* member : UnitOf(child)) Relaunch(*member);
  }
  return std::nullopt;
}

std::vector<Supervisor::Child*> Supervisor::UnitOf(Child& child) {
  if (child.spec.unit.empty()) return {&child};
  std::vector<Child*> members;
  for (Child& other : children_) {
    if (other.spec.unit == child.spec.unit) members.push_back(&other);
  }
  return members;
}

bool Supervisor::IsDue(Child& child) {
  if (child.pid != 0) return false;
  const std::vector<Child*> members = UnitOf(child);
  return std::all_of(members.begin(), members.end(), [this](const Child* member) {
    return member->pid == 0 && member->wanted && clock_.Now() >= member->restart_at;
  });
}

void Supervisor::Relaunch(Child& child) {
  ++restarts_;
  const absl::Status launched = Launch(child);
  if (launched.ok()) return;
  LOG(ERROR) << "name=" << child.spec.name << " status=" << LogText(launched.ToString());
  child.restart_at = clock_.Now() + child.backoff.OnDeath(absl::ZeroDuration());
}

std::optional<int> Supervisor::OnDeath(Child& child, int wait_status) {
  if (!child.wanted) return std::nullopt;
  const int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
  const absl::Duration wait = child.backoff.OnDeath(clock_.Now() - child.started);
  child.restart_at = clock_.Now() + wait;
  LOG(WARNING) << "name=" << child.spec.name << " ended=" << LogText(Describe(wait_status))
               << " restart_in=" << wait << " log=" << LogText(child.spec.log_path);
  for (Child* member : UnitOf(child)) {
    if (member->pid != 0) member->kill_at = std::min(member->kill_at, clock_.Now() + kUnitGrace);
  }
  if (code == kExitUsage || code == kExitBadModel) return code;
  return std::nullopt;
}

std::optional<int> Supervisor::Reap(Child& child) {
  int wait_status = 0;
  if (child.pid == 0 || waitpid(child.pid, &wait_status, WNOHANG) != child.pid) {
    return std::nullopt;
  }
  child.pid = 0;
  return wait_status;
}

bool Supervisor::Stop(const std::vector<std::string>& names, absl::Duration grace) {
  std::vector<Child*> stopping;
  for (Child& child : children_) {
    if (std::find(names.begin(), names.end(), child.spec.name) == names.end()) continue;
    child.wanted = false;
    stopping.push_back(&child);
    if (child.pid != 0) kill(child.pid, SIGTERM);
  }
  const auto all_gone = [&] {
    return std::all_of(stopping.begin(), stopping.end(), [](Child* child) {
      Reap(*child);
      return child->pid == 0;
    });
  };
  const absl::Duration end = clock_.Now() + grace;
  while (!all_gone() && clock_.Now() < end) absl::SleepFor(absl::Milliseconds(20));
  bool by_themselves = true;
  for (Child* child : stopping) {
    if (child->pid == 0) continue;
    by_themselves = false;
    kill(child->pid, SIGKILL);
    waitpid(child->pid, nullptr, 0);
    child->pid = 0;
  }
  return by_themselves;
}

pid_t Supervisor::pid(const std::string& name) const {
  for (const Child& child : children_) {
    if (child.spec.name == name) return child.pid;
  }
  return 0;
}

}  // namespace krait
