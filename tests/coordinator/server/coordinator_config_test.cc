#include "coordinator/coordinator_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/config_loader.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<CoordinatorOptions> With(const std::string& assignment) {
  CoordinatorConfig config;
  config.set_model_path("m.gguf");
  const absl::Status status = ApplyOverride(assignment, config);
  if (!status.ok()) return status;
  return MakeCoordinatorOptions(config);
}

TEST(CoordinatorConfigTest, DefaultsAreTheDocumentedOnes) {
  const CoordinatorOptions options = With("listen=127.0.0.1:0").value();
  EXPECT_EQ(options.grpc.max_request_kib, 1024);
  EXPECT_EQ(options.grpc.max_metadata_kib, 8);
  EXPECT_EQ(options.grpc.handshake_timeout_ms, 10'000);
  EXPECT_EQ(options.grpc.idle_timeout_ms, 300'000);
  EXPECT_EQ(options.default_deadline, absl::Minutes(5));
  EXPECT_EQ(options.max_deadline, absl::Minutes(30));
  EXPECT_EQ(options.stream_buffer_tokens, 1024);
  EXPECT_EQ(options.stream_buffer_bytes, 64 << 10);
  EXPECT_EQ(options.slow_client_timeout, absl::Seconds(30));
  EXPECT_EQ(options.retry_budget_percent, 10);
  EXPECT_EQ(options.endpoint_lag, absl::ZeroDuration());
  EXPECT_FALSE(options.log.json);
}

TEST(CoordinatorConfigTest, EveryNumberHasARangeAndItsErrorNamesTheField) {
  const struct {
    const char* field;
    int64_t low;
    int64_t high;
  } ranges[] = {
      {"max_requests", 1, 100'000},
      {"max_queued", 0, 100'000},
      {"token_budget", 1, 1'000'000'000'000},
      {"default_deadline_ms", 1, 86'400'000},
      {"max_deadline_ms", 1, 86'400'000},
      {"max_attempts", 1, 100},
      {"queue_timeout_ms", 0, 86'400'000},
      {"lease_ms", 100, 86'400'000},
      {"drain_timeout_ms", 0, 86'400'000},
      {"endpoint_lag_ms", 0, 86'400'000},
      {"stream_buffer_tokens", 1, 1'000'000},
      {"stream_buffer_kib", 1, 65'536},
      {"slow_client_timeout_ms", 1, 86'400'000},
      {"retry_budget_percent", 0, 100},
      {"retry_budget_burst", 0, 100'000},
      {"log_verbosity", 0, 9},
      {"limits.grpc_memory_mib", 16, 65'536},
      {"limits.max_request_kib", 1, 65'536},
      {"limits.max_metadata_kib", 1, 64},
      {"limits.max_concurrent_streams", 1, 65'536},
      {"limits.handshake_timeout_ms", 10, 600'000},
      {"limits.idle_timeout_ms", 10, 86'400'000},
  };
  for (const auto& [field, low, high] : ranges) {
    for (int64_t value : {low, high}) {
      EXPECT_TRUE(With(absl::StrCat(field, "=", value)).ok()) << field << " " << value;
    }
    for (int64_t value : {low - 1, high + 1}) {
      const absl::Status status = With(absl::StrCat(field, "=", value)).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field << " " << value;
      EXPECT_THAT(status.message(), HasSubstr(field));
    }
  }
}

}  // namespace
}  // namespace krait
