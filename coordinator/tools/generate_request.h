#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/tools/arguments.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// The flags of `krait generate` that say what to generate: input, and one for every sampling field.
absl::Span<const FlagSpec> RequestFlags();

// INVALID_ARGUMENT names the flag. Ranges are the coordinator's to check.
absl::StatusOr<v1::GenerateRequest> MakeGenerateRequest(const Arguments& arguments);

}  // namespace krait
