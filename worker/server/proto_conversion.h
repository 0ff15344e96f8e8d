#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/request_limits.h"
#include "krait/internal/v1/worker.pb.h"
#include "krait/v1/cluster.pb.h"
#include "worker/engine/engine_interface.h"
#include "worker/speculative/sampling_proto.h"

namespace krait {

// What this worker's model allows and adds.
struct ServedModel {
  ModelLimits limits;
  std::vector<TokenId> eos_ids;
};

// Checks every field again (common/request_limits.h) and fills what is absent. `now` is the
// engine's clock: the time that was left at sending is counted from here. INVALID_ARGUMENT names
// the field.
absl::StatusOr<GenerationRequest> FromProto(const internal::v1::GenerateRequest& request,
                                            const ServedModel& model, absl::Duration now);

// Appends `event`, which continues what `chunk` holds.
void AppendTo(const TokenEvent& event, internal::v1::TokenChunk& chunk);

v1::WorkerLoad ToProto(const EngineLoad& load);

}  // namespace krait
