#include "coordinator/coordinator_config.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/field_error.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr int kMaxRequestKib = 1024;
constexpr int64_t kDay = 86'400'000;  // milliseconds

// One numeric field: `out` gets the value, or the default if it is absent.
template <typename T>
absl::Status Set(const char* field, bool present, T value, T low, T high, T default_value, T& out) {
  out = present ? value : default_value;
  if (out >= low && out <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must be ", low, " to ", high, ", got ", value));
}

absl::Status SetMs(const char* field, bool present, int64_t value, int64_t low, int64_t default_ms,
                   absl::Duration& out) {
  int64_t ms = 0;
  RETURN_IF_ERROR(Set<int64_t>(field, present, value, low, kDay, default_ms, ms));
  out = absl::Milliseconds(ms);
  return absl::OkStatus();
}

absl::Status SetLimits(const CoordinatorConfig& config, CoordinatorOptions& options) {
  RETURN_IF_ERROR(Set("max_requests", config.has_max_requests(), config.max_requests(), 1, 100'000,
                      1024, options.max_requests));
  RETURN_IF_ERROR(Set("max_queued", config.has_max_queued(), config.max_queued(), 0, 100'000, 256,
                      options.max_queued));
  RETURN_IF_ERROR(Set<int64_t>("token_budget", config.has_token_budget(), config.token_budget(), 1,
                               1'000'000'000'000, 1'000'000, options.token_budget));
  RETURN_IF_ERROR(Set("max_attempts", config.has_max_attempts(), config.max_attempts(), 1, 100, 3,
                      options.max_attempts));
  RETURN_IF_ERROR(Set("retry_budget_percent", config.has_retry_budget_percent(),
                      config.retry_budget_percent(), 0, 100, 10, options.retry_budget_percent));
  return Set("retry_budget_burst", config.has_retry_budget_burst(), config.retry_budget_burst(), 0,
             100'000, 256, options.retry_budget_burst);
}

absl::Status SetStreamBuffer(const CoordinatorConfig& config, CoordinatorOptions& options) {
  RETURN_IF_ERROR(Set("stream_buffer_tokens", config.has_stream_buffer_tokens(),
                      config.stream_buffer_tokens(), 1, 1'000'000, 1024,
                      options.stream_buffer_tokens));
  int kib = 0;
  RETURN_IF_ERROR(Set("stream_buffer_kib", config.has_stream_buffer_kib(),
                      config.stream_buffer_kib(), 1, 65'536, 64, kib));
  options.stream_buffer_bytes = kib << 10;
  return SetMs("slow_client_timeout_ms", config.has_slow_client_timeout_ms(),
               config.slow_client_timeout_ms(), 1, 30'000, options.slow_client_timeout);
}

absl::Status SetTimes(const CoordinatorConfig& config, CoordinatorOptions& options) {
  RETURN_IF_ERROR(SetMs("max_deadline_ms", config.has_max_deadline_ms(), config.max_deadline_ms(),
                        1, 1'800'000, options.max_deadline));
  RETURN_IF_ERROR(SetMs("default_deadline_ms", config.has_default_deadline_ms(),
                        config.default_deadline_ms(), 1, 300'000, options.default_deadline));
  RETURN_IF_ERROR(SetMs("queue_timeout_ms", config.has_queue_timeout_ms(),
                        config.queue_timeout_ms(), 0, 10'000, options.queue_timeout));
  RETURN_IF_ERROR(
      SetMs("lease_ms", config.has_lease_ms(), config.lease_ms(), 100, 3'000, options.lease));
  RETURN_IF_ERROR(SetMs("drain_timeout_ms", config.has_drain_timeout_ms(),
                        config.drain_timeout_ms(), 0, 30'000, options.drain_timeout));
  RETURN_IF_ERROR(SetMs("endpoint_lag_ms", config.has_endpoint_lag_ms(), config.endpoint_lag_ms(),
                        0, 0, options.endpoint_lag));
  options.default_deadline = std::min(options.default_deadline, options.max_deadline);
  return absl::OkStatus();
}

std::string OrDefault(const std::string& value, const char* default_value) {
  return value.empty() ? default_value : value;
}

}  // namespace

std::string DefaultModelName(const std::string& model_path) {
  std::filesystem::path path(model_path);
  if (!path.has_filename()) path = path.parent_path();  // a trailing slash
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

absl::StatusOr<CoordinatorOptions> MakeCoordinatorOptions(const CoordinatorConfig& config) {
  CoordinatorOptions options;
  if (config.model_path().empty()) return FieldError("model_path", "must be set");
  options.model_path = config.model_path();
  options.model_name =
      config.model_name().empty() ? DefaultModelName(config.model_path()) : config.model_name();
  ASSIGN_OR_RETURN(options.grpc, MakeGrpcServerOptions(OrDefault(config.listen(), "127.0.0.1:0"),
                                                       config.insecure_plaintext(), config.limits(),
                                                       kMaxRequestKib));
  options.admin_listen = OrDefault(config.admin_listen(), "127.0.0.1:0");
  for (const auto& [field, address] : {std::pair("listen", options.grpc.listen),
                                       std::pair("admin_listen", options.admin_listen)}) {
    if (const auto parsed = ParseHostPort(address); !parsed.ok()) {
      return FieldError(field, std::string(parsed.status().message()));
    }
  }
  options.port_file = config.port_file();
  options.routing_policy = OrDefault(config.routing_policy(), "least_loaded");
  RETURN_IF_ERROR(SetLimits(config, options));
  RETURN_IF_ERROR(SetTimes(config, options));
  RETURN_IF_ERROR(SetStreamBuffer(config, options));
  ASSIGN_OR_RETURN(options.log, MakeLogOptions(config.log_format(), config.log_verbosity()));
  return options;
}

}  // namespace krait
