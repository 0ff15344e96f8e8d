#pragma once

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/backend.h"

namespace krait {

// Returns once `backend` has run the ops called so far; before that with the error of `check`,
// which is asked in turns, or with UNAVAILABLE after `limit`: a device whose ops wait for a peer's
// would keep its host for ever.
absl::Status AwaitIdle(Backend& backend, absl::Duration limit,
                       absl::FunctionRef<absl::Status()> check);

}  // namespace krait
