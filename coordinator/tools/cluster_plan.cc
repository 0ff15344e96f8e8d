#include "coordinator/tools/cluster_plan.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// "host:0" and "" get a port; anything else is kept.
std::string WithPort(const std::string& listen, const std::function<int()>& pick_port) {
  if (listen.empty()) return absl::StrCat("127.0.0.1:", pick_port());
  if (!absl::EndsWith(listen, ":0")) return listen;
  return absl::StrCat(listen.substr(0, listen.size() - 1), pick_port());
}

absl::Status CompleteCoordinator(CoordinatorConfig& coordinator,
                                 const std::function<int()>& pick_port) {
  if (coordinator.model_path().empty()) {
    return absl::InvalidArgumentError("coordinator.model_path is not set");
  }
  coordinator.set_listen(WithPort(coordinator.listen(), pick_port));
  coordinator.set_admin_listen(WithPort(coordinator.admin_listen(), pick_port));
  return absl::OkStatus();
}

absl::Status CompleteWorker(const CoordinatorConfig& coordinator, int index, WorkerConfig& worker,
                            const std::function<int()>& pick_port) {
  const bool draft = worker.role() == WorkerConfig::DRAFT;
  if (worker.name().empty()) worker.set_name(absl::StrCat(draft ? "draft-" : "target-", index));
  if (worker.model_path().empty()) {
    if (draft) {
      return absl::InvalidArgumentError(
          absl::StrCat("workers[", worker.name(), "].model_path is not set"));
    }
    worker.set_model_path(coordinator.model_path());
  }
  if (worker.model_name().empty()) worker.set_model_name(coordinator.model_name());
  worker.set_listen(WithPort(worker.listen(), pick_port));
  worker.set_admin_listen(WithPort(worker.admin_listen(), pick_port));
  if (worker.coordinators().empty()) worker.add_coordinators(coordinator.listen());
  return absl::OkStatus();
}

bool HasDraftSource(const WorkerConfig& worker) {
  return !worker.draft_address().empty() || !worker.draft_model_path().empty() || worker.ngram();
}

void ConnectDraft(ClusterConfig& config) {
  std::string draft_address;
  for (const WorkerConfig& worker : config.workers()) {
    if (worker.role() == WorkerConfig::DRAFT && draft_address.empty()) {
      draft_address = worker.listen();
    }
  }
  for (WorkerConfig& worker : *config.mutable_workers()) {
    if (worker.role() == WorkerConfig::TARGET && !HasDraftSource(worker)) {
      worker.set_draft_address(draft_address);
    }
  }
}

}  // namespace

absl::Status CompleteClusterConfig(ClusterConfig& config, const std::function<int()>& pick_port) {
  RETURN_IF_ERROR(CompleteCoordinator(*config.mutable_coordinator(), pick_port));
  int num_of_role[2] = {0, 0};
  std::set<std::string> names = {"coordinator"};
  for (WorkerConfig& worker : *config.mutable_workers()) {
    int& index = num_of_role[worker.role() == WorkerConfig::DRAFT];
    RETURN_IF_ERROR(CompleteWorker(config.coordinator(), index++, worker, pick_port));
    if (!names.insert(worker.name()).second) {
      return absl::InvalidArgumentError(absl::StrCat("workers: two are named ", worker.name()));
    }
  }
  if (num_of_role[0] == 0) return absl::InvalidArgumentError("workers: none has role TARGET");
  ConnectDraft(config);
  return absl::OkStatus();
}

}  // namespace krait
