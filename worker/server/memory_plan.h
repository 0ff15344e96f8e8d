#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"
#include "worker/worker_config.h"

namespace krait {

// What a model sets aside at start, beside its weights.
struct CachePlan {
  int num_pages = 0;        // KV pages of the whole model
  int num_state_slots = 0;  // 0 without recurrent layers
};

// The same of a worker.
struct MemoryPlan : CachePlan {
  CachePlan draft;  // of options.draft_model_path, in the process that has rank 0
};

// As many KV pages as `options.kv_cache_mib` buys over all ranks, but no more than max_running
// sequences of the whole context can use, and `options.state_slots` slots. A draft in the target's
// process has as much for itself, and a slot for each of max_running sequences. A FieldError names
// kv_cache_mib if it holds less than two pages, and kv_cache_mib, state_slots, model_path or
// draft_model_path, with the most that would fit, if what this process holds does not fit into
// `memory_bytes`: weights first, then the draft, then pages, then slots. Nothing is allocated.
absl::StatusOr<MemoryPlan> PlanMemory(const WorkerOptions& options, const Checkpoint& checkpoint,
                                      const ModelConfig& config, int64_t memory_bytes);

// The limit for `options.device`: the machine's memory for CPUs. A GPU's is its own and is known
// only when it is used; there the first allocation that fails names its bytes.
int64_t MemoryLimit(const WorkerOptions& options);

}  // namespace krait
