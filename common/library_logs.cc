#include "common/library_logs.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include "absl/synchronization/mutex.h"
#include "common/logging.h"

namespace krait {
namespace {

void LogGrpc(gpr_log_func_args* args) {
  if (args->severity == GPR_LOG_SEVERITY_ERROR) {
    LOG(ERROR) << "library=grpc line=" << args->line << " msg=" << LogText(args->message);
  } else {
    LOG(INFO) << "library=grpc line=" << args->line << " msg=" << LogText(args->message);
  }
}

void LogProtobuf(google::protobuf::LogLevel level, const char*, int line,
                 const std::string& message) {
  if (level == google::protobuf::LOGLEVEL_FATAL) {
    LOG(ERROR) << "library=protobuf line=" << line << " msg=" << LogText(message);
  } else {
    LOG(WARNING) << "library=protobuf line=" << line << " msg=" << LogText(message);
  }
}

}  // namespace

void StopLookingForDeadlocks() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

void RouteLibraryLogs() {
  gpr_set_log_function(LogGrpc);
  google::protobuf::SetLogHandler(LogProtobuf);
}

}  // namespace krait
