#include "worker/runner/step_agreement.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

absl::Status Mismatch(int rank, const char* what, uint64_t theirs, uint64_t rank0) {
  return absl::InternalError(absl::StrCat("rank ", rank, " disagrees with rank 0 on the ", what,
                                          ": ", theirs, " vs. ", rank0));
}

absl::Status Compare(int rank, const StepFingerprint& theirs, const StepFingerprint& rank0) {
  if (theirs.step_id != rank0.step_id) {
    return Mismatch(rank, "step id", theirs.step_id, rank0.step_id);
  }
  if (theirs.plan_hash != rank0.plan_hash) {
    return Mismatch(rank, "plan's hash", theirs.plan_hash, rank0.plan_hash);
  }
  if (theirs.previous_tokens_hash != rank0.previous_tokens_hash) {
    return Mismatch(rank, "hash of the last step's tokens", theirs.previous_tokens_hash,
                    rank0.previous_tokens_hash);
  }
  return absl::OkStatus();
}

}  // namespace

StepAgreement::StepAgreement(Communicator* comm) : comm_(comm), all_(comm->size()) {}

absl::Status StepAgreement::Check(const StepFingerprint& mine) {
  if (comm_->size() == 1) return comm_->CheckHealth();
  const auto* send = reinterpret_cast<const std::byte*>(&mine);
  auto* recv = reinterpret_cast<std::byte*>(all_.data());
  RETURN_IF_ERROR(comm_->AllGather(absl::MakeConstSpan(send, sizeof(mine)),
                                   absl::MakeSpan(recv, all_.size() * sizeof(mine))));
  for (int rank = 1; rank < comm_->size(); ++rank) {
    RETURN_IF_ERROR(Compare(rank, all_[rank], all_[0]));
  }
  return absl::OkStatus();
}

}  // namespace krait
