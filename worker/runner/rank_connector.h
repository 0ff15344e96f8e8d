#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"
#include "worker/comm/process_group.h"
#include "worker/runner/rank_group_options.h"

namespace krait {

// How the ranks of this process meet each other and those of other processes.
class RankConnector {
 public:
  virtual ~RankConnector() = default;
  // The communicator of this process's rank `index`. Once a rank, on its own thread, all ranks at
  // the same time; waits for the peers, or leaves that to Communicator::Await, during which it can
  // be aborted. UNAVAILABLE if one cannot be reached in time.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Connect(int index) = 0;
};

// One backend a rank of this process. `processes` is null if there is but one; else all processes
// make one at the same time, for they tell each other where their ranks are found. `backends`
// outlive what is connected. The errors of ProcessGroup::Exchange and RankGroupOptions::comm_kind;
// UNAVAILABLE if a rank cannot listen or there is no NCCL.
absl::StatusOr<std::unique_ptr<RankConnector>> MakeRankConnector(
    const RankGroupOptions& options, absl::Span<Backend* const> backends, ProcessGroup* processes);

}  // namespace krait
