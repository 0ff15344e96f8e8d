#include "coordinator/admission/admission_controller.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {

AdmissionTicket& AdmissionTicket::operator=(AdmissionTicket&& other) noexcept {
  if (this == &other) return *this;
  Release();
  controller_ = std::exchange(other.controller_, nullptr);
  tokens_ = other.tokens_;
  queued_ = std::exchange(other.queued_, false);
  return *this;
}

absl::Status AdmissionTicket::EnterQueue() {
  if (controller_ == nullptr || queued_) return absl::OkStatus();
  const absl::Status status = controller_->Enqueue();
  queued_ = status.ok();
  return status;
}

void AdmissionTicket::LeaveQueue() {
  if (queued_) controller_->Dequeue();
  queued_ = false;
}

void AdmissionTicket::Release() {
  LeaveQueue();
  if (controller_ != nullptr) controller_->GiveBack(tokens_);
  controller_ = nullptr;
}

absl::StatusOr<AdmissionTicket> AdmissionController::Admit(int64_t tokens, Refusal* refusal) {
  absl::MutexLock lock(&mutex_);
  *refusal = Refusal::kRequests;
  RETURN_IF_ERROR(CheckRequests());
  if (load_.requests > 0 && tokens > options_.token_budget - load_.tokens) {
    *refusal = Refusal::kTokens;
    return absl::ResourceExhaustedError(
        absl::StrCat("token_budget: ", load_.tokens, " of ", options_.token_budget,
                     " tokens are in use, the request needs ", tokens, " (prompt + max_tokens)"));
  }
  ++load_.requests;
  load_.tokens += tokens;
  return AdmissionTicket(this, tokens);
}

absl::Status AdmissionController::CheckRoom() const {
  absl::MutexLock lock(&mutex_);
  return CheckRequests();
}

absl::Status AdmissionController::CheckRequests() const {
  if (load_.requests < options_.max_requests) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("max_requests: ", options_.max_requests, " requests are running"));
}

AdmissionController::Load AdmissionController::load() const {
  absl::MutexLock lock(&mutex_);
  return load_;
}

absl::Status AdmissionController::Enqueue() {
  absl::MutexLock lock(&mutex_);
  if (load_.queued >= options_.max_queued) {
    return absl::ResourceExhaustedError(
        absl::StrCat("max_queued: ", options_.max_queued, " requests wait for a worker already"));
  }
  ++load_.queued;
  return absl::OkStatus();
}

void AdmissionController::Dequeue() {
  absl::MutexLock lock(&mutex_);
  CHECK_GT(load_.queued, 0);
  --load_.queued;
}

void AdmissionController::GiveBack(int64_t tokens) {
  absl::MutexLock lock(&mutex_);
  --load_.requests;
  load_.tokens -= tokens;
  CHECK_GE(load_.requests, 0);
  CHECK_GE(load_.tokens, 0);
}

}  // namespace krait
