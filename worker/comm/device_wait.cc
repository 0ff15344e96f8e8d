#include "worker/comm/device_wait.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/comm/patience.h"

namespace krait {

absl::Status AwaitIdle(Backend& backend, absl::Duration limit,
                       absl::FunctionRef<absl::Status()> check) {
  Patience patience(limit);
  for (;;) {
    // Before the answer counts: an abort ends ops too, with results that are worth nothing.
    const bool idle = backend.Idle();
    RETURN_IF_ERROR(check());
    if (idle) return absl::OkStatus();
    if (patience.Pause()) continue;
    return absl::UnavailableError(absl::StrCat(
        backend.device().ToString(), " has not run its ops within ", absl::FormatDuration(limit)));
  }
}

}  // namespace krait
