#pragma once

#include "absl/status/statusor.h"
#include "worker/models/model_config.h"
#include "worker/worker_config.h"

namespace krait {

// How many KV pages `options.kv_cache_mib` buys for this model over all ranks, but no more than
// max_running sequences of the whole context can use. A FieldError if one sequence's two pages do
// not fit.
absl::StatusOr<int> NumKvPages(const WorkerOptions& options, const ModelConfig& config);

}  // namespace krait
