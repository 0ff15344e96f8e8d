#pragma once

#include <grpcpp/support/status.h>

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace krait {

// absl::Status <-> grpc::Status. Codes share their numbers. Two details cross the wire in the
// grpc-status-details-bin trailer, as a google.rpc.Status: the field of a FieldError
// (common/field_error.h) as google.rpc.BadRequest, and the delay of a RetryLaterError as
// google.rpc.RetryInfo. Messages are cut to 1 KiB: a trailer has to fit into the client's header
// limit. Thread-safe.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The inverse. A peer's malformed details are dropped; code and message always survive.
absl::Status FromGrpcStatus(const grpc::Status& status);

// RESOURCE_EXHAUSTED: over capacity now, worth another try after `delay`.
absl::Status RetryLaterError(std::string_view message, absl::Duration delay);

// The delay of a RetryLaterError, on either side of the wire.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// True for failures of one worker that another worker may not have, if no token was delivered yet:
// UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED. The request itself is at fault, or the time is up, for
// all others; INTERNAL is not retried because what broke this worker may break the next.
bool IsRetryable(const absl::Status& status);

}  // namespace krait
