#pragma once

#include "worker/runner/rank_group.h"
#include "worker/server/memory_plan.h"
#include "worker/worker_config.h"

namespace krait {

// The ranks that a TARGET's process hosts, and how it finds the others; the same for process 0,
// whose engine owns them, and those that follow.
RankGroupOptions MakeRankGroupOptions(const WorkerOptions& options, const MemoryPlan& plan);

}  // namespace krait
