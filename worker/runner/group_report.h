#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/process_group.h"
#include "worker/runner/process_report.h"

namespace krait {

// What the processes of a group have loaded together.
struct GroupReport {
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t state_bytes_per_slot = 0;
  std::vector<RankPlace> ranks;  // by rank
};

// Every process tells all what it has loaded, or why it could not; none goes on unless all have
// loaded, and the same. `processes` is null if there is but one. The error of `mine` first, as it
// says most; FAILED_PRECONDITION naming another process that could not load or has other weights;
// the errors of ProcessGroup::Exchange.
absl::StatusOr<GroupReport> ShareReports(const absl::StatusOr<ProcessReport>& mine,
                                         int process_index, ProcessGroup* processes);

}  // namespace krait
