#include "common/grpc_status.h"

#include <algorithm>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/field_error.h"
#include "common/strings.h"
#include "google/rpc/status_details.pb.h"

namespace krait {
namespace {

constexpr char kRetryPayload[] = "krait/retry_delay_ms";
constexpr size_t kMaxMessageBytes = 1024;
constexpr int64_t kMaxRetryDelayMs = 3'600'000;

// Cut at a character's first byte: the message is a proto string in the details.
std::string Truncate(std::string message) {
  if (message.size() <= kMaxMessageBytes) return message;
  size_t end = kMaxMessageBytes;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;
  message.resize(end);
  return message;
}

void AddFieldViolation(const absl::Status& status, const std::string& field,
                       google::rpc::Status& details) {
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(field);
  const std::string prefix = absl::StrCat(field, ": ");
  violation->set_description(Truncate(std::string(absl::StripPrefix(status.message(), prefix))));
  details.add_details()->PackFrom(bad_request);
}

void AddRetryInfo(absl::Duration delay, google::rpc::Status& details) {
  google::rpc::RetryInfo info;
  const int64_t ms = absl::ToInt64Milliseconds(delay);
  info.mutable_retry_delay()->set_seconds(ms / 1000);
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(ms % 1000 * 1'000'000));
  details.add_details()->PackFrom(info);
}

void SetRetryDelay(absl::Duration delay, absl::Status& status) {
  const int64_t ms = std::clamp(absl::ToInt64Milliseconds(delay), int64_t{0}, kMaxRetryDelayMs);
  status.SetPayload(kRetryPayload, absl::Cord(absl::StrCat(ms)));
}

void ReadDetail(const google::protobuf::Any& any, absl::Status& status) {
  google::rpc::RetryInfo retry;
  google::rpc::BadRequest bad_request;
  if (any.Is<google::rpc::RetryInfo>() && any.UnpackTo(&retry)) {
    SetRetryDelay(absl::Seconds(retry.retry_delay().seconds()) +
                      absl::Nanoseconds(retry.retry_delay().nanos()),
                  status);
  } else if (any.Is<google::rpc::BadRequest>() && any.UnpackTo(&bad_request) &&
             bad_request.field_violations_size() > 0) {
    SetErrorField(bad_request.field_violations(0).field(), status);
  }
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status details;
  if (const std::string field = ErrorField(status); !field.empty()) {
    AddFieldViolation(status, field, details);
  }
  if (const auto delay = RetryDelay(status)) AddRetryInfo(*delay, details);
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  const std::string message = Truncate(std::string(status.message()));
  if (details.details_size() == 0) return grpc::Status(code, message);
  details.set_code(status.raw_code());
  details.set_message(message);
  return grpc::Status(code, message, details.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = status.error_code();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  absl::Status result(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      ToAbsl(status.error_message()));
  google::rpc::Status details;
  if (status.error_details().empty() || !details.ParseFromString(status.error_details())) {
    return result;
  }
  for (const auto& any : details.details()) ReadDetail(any, result);
  return result;
}

absl::Status RetryLaterError(std::string_view message, absl::Duration delay) {
  absl::Status status = absl::ResourceExhaustedError(ToAbsl(message));
  SetRetryDelay(delay, status);
  return status;
}

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryPayload);
  int64_t ms = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &ms)) return std::nullopt;
  return absl::Milliseconds(ms);
}

bool IsRetryable(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) ||
         absl::IsAborted(status);
}

}  // namespace krait
