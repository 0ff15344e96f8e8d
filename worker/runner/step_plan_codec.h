#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "worker/runner/step_plan.h"

namespace krait {

// A plan as bytes, for the ranks of other processes of the same build: fields in the order of
// step_plan_fields.h, little-endian, each list after its 32-bit length. No versions: processes of
// different builds do not form a group.
std::string EncodeStepPlan(const StepPlan& plan);

// INTERNAL, naming the offset, if the bytes are no plan: cut short, left over, or a list longer
// than they can hold. Memory stays within a small multiple of bytes.size().
absl::StatusOr<StepPlan> DecodeStepPlan(std::string_view bytes);

}  // namespace krait
