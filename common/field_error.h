#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace krait {

// INVALID_ARGUMENT "<field>: <description>" that remembers the field: on the wire it becomes a
// google.rpc.BadRequest field violation (common/grpc_status.h). `description` names the value and
// the limit, e.g. "must be at most 2, got 3".
absl::Status FieldError(std::string_view field, std::string_view description);

// The field that FieldError put into `status`; empty if there is none.
std::string ErrorField(const absl::Status& status);

// Makes `status`, which keeps its code and message, remember `field`.
void SetErrorField(std::string_view field, absl::Status& status);

}  // namespace krait
