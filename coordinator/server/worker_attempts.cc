#include "coordinator/server/worker_attempts.h"

#include "absl/strings/str_cat.h"
#include "coordinator/server/session_admission.h"

namespace krait {

absl::Status WorkerAttempts::OnLoss(const WorkerKey& worker, const absl::Status& status,
                                    int num_tokens) {
  // A limit of a worker that is there: queues are full before the first token only.
  if (num_tokens > 0 && absl::IsResourceExhausted(status)) return status;
  if (num_tokens > 0) {
    context_.metrics.streams_broken.Increment();
    return absl::UnavailableError(
        absl::StrCat("the worker was lost after ", num_tokens, " tokens"));
  }
  tried_.insert(worker);
  last_loss_ = status;
  const bool may_retry = count_ < context_.options.max_attempts;
  if (may_retry && context_.retry_budget.TryRetry()) return absl::OkStatus();
  if (may_retry) context_.metrics.retries_denied.Increment();
  if (absl::IsResourceExhausted(status)) return ComeAgain(status);
  return absl::UnavailableError(absl::StrCat("no worker answered in ", count_, " attempts"));
}

}  // namespace krait
