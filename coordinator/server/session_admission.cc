#include "coordinator/server/session_admission.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

constexpr absl::Duration kRetryDelay = absl::Seconds(1);

Rejection ToRejection(AdmissionController::Refusal refusal) {
  return refusal == AdmissionController::Refusal::kTokens ? Rejection::kTokenBudget
                                                          : Rejection::kMaxRequests;
}

}  // namespace

absl::Status ComeAgain(const absl::Status& why) {
  return RetryLaterError(ToStd(why.message()), kRetryDelay);
}

absl::Status SessionAdmission::CheckEntry() const {
  RETURN_IF_ERROR(CheckDeadline());
  return CheckRoom();
}

// Refuses now what would only be given up later, after it has waited in front of others.
absl::Status SessionAdmission::CheckDeadline() const {
  const absl::Duration left = deadline_ - context_.clock.Now();
  if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("the deadline has passed");
  const absl::Duration wait = context_.wait_estimator.Estimate(context_.admission.load().requests,
                                                               context_.registry.Capacity());
  if (wait <= left) return absl::OkStatus();
  return Refuse(Rejection::kDeadline, absl::ResourceExhaustedError(absl::StrCat(
                                          "deadline: about ", absl::ToInt64Milliseconds(wait),
                                          " ms would pass before the request runs, and ",
                                          absl::ToInt64Milliseconds(left), " ms are left")));
}

absl::Status SessionAdmission::CheckRoom() const {
  const absl::Status room = context_.admission.CheckRoom();
  if (!room.ok()) return Refuse(Rejection::kMaxRequests, room);
  if (!context_.registry.Full()) return absl::OkStatus();
  return Refuse(Rejection::kWorkersFull,
                absl::ResourceExhaustedError("max_waiting: every worker's queue is full"));
}

absl::Status SessionAdmission::Admit(const PreparedRequest& request) {
  AdmissionController::Refusal refusal;
  auto ticket = context_.admission.Admit(request.num_tokens(), &refusal);
  if (!ticket.ok()) return Refuse(ToRejection(refusal), ticket.status());
  ticket_ = std::move(*ticket);
  context_.metrics.prompt_tokens.Observe(request.num_prompt_tokens());
  return absl::OkStatus();
}

absl::Status SessionAdmission::EnterQueue() {
  const absl::Status queued = ticket_.EnterQueue();
  return queued.ok() ? queued : Refuse(Rejection::kMaxQueued, queued);
}

void SessionAdmission::Leave(bool served) {
  if (served) {
    context_.wait_estimator.OnFinished(context_.admission.load().requests,
                                       context_.registry.Capacity(), context_.clock.Now());
  }
  ticket_.Release();
}

absl::Status SessionAdmission::Refuse(Rejection reason, const absl::Status& why) const {
  context_.metrics.rejected(reason).Increment();
  return ComeAgain(why);
}

}  // namespace krait
