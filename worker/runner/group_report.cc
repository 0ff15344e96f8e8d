#include "worker/runner/group_report.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// By process.
absl::StatusOr<std::vector<ProcessReport>> Exchange(const ProcessReport& mine,
                                                    ProcessGroup& processes) {
  ASSIGN_OR_RETURN(const std::vector<std::string> all, processes.Exchange(PackReport(mine)));
  std::vector<ProcessReport> reports;
  for (const std::string& packed : all) {
    ASSIGN_OR_RETURN(ProcessReport report, UnpackReport(packed));
    reports.push_back(std::move(report));
  }
  return reports;
}

absl::Status CheckReport(const ProcessReport& report, size_t index, const ProcessReport& mine,
                         int process_index) {
  if (!report.error.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("process ", index, ": ", report.error));
  }
  if (report.weights_digest == mine.weights_digest) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("process ", index, " has weights ",
                                                    report.weights_digest, ", process ",
                                                    process_index, " has ", mine.weights_digest));
}

}  // namespace

absl::StatusOr<GroupReport> ShareReports(const absl::StatusOr<ProcessReport>& mine,
                                         int process_index, ProcessGroup* processes) {
  std::vector<ProcessReport> all;
  if (processes != nullptr) {
    ProcessReport told{.error = std::string(mine.status().message())};
    auto exchanged = Exchange(mine.ok() ? *mine : told, *processes);
    RETURN_IF_ERROR(mine.status());  // says more than that the others have noticed
    ASSIGN_OR_RETURN(all, std::move(exchanged));
  } else {
    RETURN_IF_ERROR(mine.status());
    all = {*mine};
  }
  GroupReport group;
  for (size_t p = 0; p < all.size(); ++p) {
    RETURN_IF_ERROR(CheckReport(all[p], p, *mine, process_index));
    group.weight_bytes += all[p].weight_bytes;
    group.kv_bytes_per_token += all[p].kv_bytes_per_token;
    group.state_bytes_per_slot += all[p].state_bytes_per_slot;
    group.ranks.insert(group.ranks.end(), all[p].ranks.begin(), all[p].ranks.end());
  }
  return group;
}

}  // namespace krait
