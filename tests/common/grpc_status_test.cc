#include "common/grpc_status.h"

#include <gtest/gtest.h>

#include "common/field_error.h"
#include "google/rpc/status_details.pb.h"

namespace krait {
namespace {

TEST(GrpcStatus, CodeAndMessageSurviveTheWire) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status) << code;
  }
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

TEST(GrpcStatus, FieldErrorBecomesABadRequest) {
  const grpc::Status wire = ToGrpcStatus(FieldError("top_p", "must be at most 1, got 2"));
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(wire.error_details()));
  EXPECT_EQ(details.code(), 3);
  google::rpc::BadRequest bad_request;
  ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "top_p");
  EXPECT_EQ(bad_request.field_violations(0).description(), "must be at most 1, got 2");
  EXPECT_EQ(ErrorField(FromGrpcStatus(wire)), "top_p");
}

TEST(GrpcStatus, RetryDelaySurvivesTheWire) {
  const absl::Status status = RetryLaterError("queue full", absl::Milliseconds(1250));
  const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
  EXPECT_EQ(back.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RetryDelay(back), absl::Milliseconds(1250));
  EXPECT_EQ(RetryDelay(absl::ResourceExhaustedError("x")), std::nullopt);
}

TEST(GrpcStatus, MalformedDetailsAreDropped) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::ABORTED, "m", "\xff\xff not a proto"));
  EXPECT_EQ(status, absl::AbortedError("m"));
}

TEST(GrpcStatus, CodesOutsideTheListBecomeUnknown) {
  EXPECT_EQ(FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(20), "m")).code(),
            absl::StatusCode::kUnknown);
}

TEST(GrpcStatus, LongMessagesAreCutBetweenCharacters) {
  std::string text(1023, 'a');
  text += "\xc3\xa9 and more";  // the two bytes of one character lie across the limit
  EXPECT_EQ(ToGrpcStatus(absl::InternalError(text)).error_message(), std::string(1023, 'a'));
}

TEST(GrpcStatus, OnlyFaultsOfOneWorkerAreRetryable) {
  EXPECT_TRUE(IsRetryable(absl::UnavailableError("")));
  EXPECT_TRUE(IsRetryable(absl::ResourceExhaustedError("")));
  EXPECT_TRUE(IsRetryable(absl::AbortedError("")));
  EXPECT_FALSE(IsRetryable(absl::OkStatus()));
  EXPECT_FALSE(IsRetryable(absl::InvalidArgumentError("")));
  EXPECT_FALSE(IsRetryable(absl::InternalError("")));
  EXPECT_FALSE(IsRetryable(absl::DeadlineExceededError("")));
  EXPECT_FALSE(IsRetryable(absl::CancelledError("")));
}

}  // namespace
}  // namespace krait
