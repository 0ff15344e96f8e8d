#include "coordinator/cluster/registration_check.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/build_info.h"
#include "common/field_error.h"
#include "common/logging.h"
#include "common/request_limits.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr int kMaxFieldBytes = 256;
constexpr int kMaxRanks = 1024;

absl::Status CheckBytes(const char* field, const std::string& value, size_t low) {
  if (value.size() >= low && value.size() <= kMaxFieldBytes) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat("must have ", low, " to ", kMaxFieldBytes, " bytes, got ", value.size()));
}

absl::Status CheckWireVersion(uint32_t theirs) {
  const int64_t distance = std::llabs(int64_t{theirs} - int64_t{kWireVersion});
  if (distance <= 1) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("wire_version differs by more than 1: ours is ",
                                                    kWireVersion, ", the worker's is ", theirs));
}

absl::Status CheckTarget(const internal::v1::RegisterRequest& request) {
  if (request.max_context_tokens() < 2) {
    return FieldError("max_context_tokens",
                      absl::StrCat("must be at least 2, got ", request.max_context_tokens()));
  }
  if (request.vocab_size() < 1) {
    return FieldError("vocab_size", absl::StrCat("must be at least 1, got ", request.vocab_size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRegistration(const internal::v1::RegisterRequest& request) {
  RETURN_IF_ERROR(CheckWireVersion(request.wire_version()));
  const v1::Worker& worker = request.worker();
  // Names have a request id's alphabet: they stand in log lines.
  if (!CheckRequestId(worker.name()).ok()) {
    return FieldError("worker.name", "must be 1 to 128 bytes of [A-Za-z0-9._:-]");
  }
  RETURN_IF_ERROR(CheckBytes("worker.model", worker.model(), 1));
  RETURN_IF_ERROR(CheckBytes("worker.build_id", worker.build_id(), 1));
  RETURN_IF_ERROR(CheckBytes("worker.weights_digest", worker.weights_digest(), 0));
  RETURN_IF_ERROR(CheckBytes("worker.tokenizer_digest", worker.tokenizer_digest(), 0));
  RETURN_IF_ERROR(CheckBytes("instance_id", request.instance_id(), 1));
  RETURN_IF_ERROR(CheckBytes("worker.address", worker.address(), 1));
  if (!ParseHostPort(worker.address()).ok()) {
    return FieldError("worker.address", "must be host:port");
  }
  if (worker.ranks_size() > kMaxRanks) {
    return FieldError("worker.ranks",
                      absl::StrCat("at most ", kMaxRanks, " entries, got ", worker.ranks_size()));
  }
  if (worker.role() == v1::WORKER_ROLE_TARGET) return CheckTarget(request);
  if (worker.role() == v1::WORKER_ROLE_DRAFT) return absl::OkStatus();
  return FieldError("worker.role", absl::StrCat("must be TARGET or DRAFT, got ", worker.role()));
}

absl::Status MismatchError(const char* what, const std::string& expected, const std::string& name,
                           const std::string& got) {
  return absl::FailedPreconditionError(absl::StrCat(what, " differs: ours is ", LogText(expected),
                                                    ", worker ", name, " has ", LogText(got)));
}

}  // namespace krait
