#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/grpc_server.h"
#include "common/log_format.h"
#include "krait/config.pb.h"

namespace krait {

// CoordinatorConfig with every default filled in and every range checked; const from then on.
struct CoordinatorOptions {
  GrpcServerOptions grpc;
  std::string admin_listen;
  std::string model_path;
  std::string model_name;
  std::string port_file;  // empty: none
  LogOptions log;

  std::string routing_policy;
  int max_requests = 0;
  int max_queued = 0;
  int64_t token_budget = 0;
  absl::Duration default_deadline;
  absl::Duration max_deadline;
  int max_attempts = 0;
  absl::Duration queue_timeout;
  absl::Duration lease;
  absl::Duration drain_timeout;
  absl::Duration endpoint_lag;
  int stream_buffer_tokens = 0;
  int stream_buffer_bytes = 0;
  absl::Duration slow_client_timeout;
  int retry_budget_percent = 0;
  int retry_budget_burst = 0;
};

// INVALID_ARGUMENT names the field, the value and the range.
absl::StatusOr<CoordinatorOptions> MakeCoordinatorOptions(const CoordinatorConfig& config);

// The name that a model has unless its configuration says otherwise: the file's, without ".gguf",
// or the folder's.
std::string DefaultModelName(const std::string& model_path);

}  // namespace krait
