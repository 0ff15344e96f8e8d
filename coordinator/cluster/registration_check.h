#pragma once

#include "absl/status/status.h"
#include "krait/internal/v1/worker.pb.h"

namespace krait {

// Whether a registration is well-formed and of a wire version that we speak; nothing about the
// cluster. INVALID_ARGUMENT names the field, FAILED_PRECONDITION both wire versions.
absl::Status CheckRegistration(const internal::v1::RegisterRequest& request);

// FAILED_PRECONDITION "<what> differs: ours is <expected>, worker <name> has <got>".
absl::Status MismatchError(const char* what, const std::string& expected, const std::string& name,
                           const std::string& got);

}  // namespace krait
