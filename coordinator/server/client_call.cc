#include "coordinator/server/client_call.h"

#include <algorithm>
#include <chrono>

#include "common/traceparent.h"

namespace krait {

absl::Duration TimeLeft(const grpc::CallbackServerContext& call,
                        const CoordinatorOptions& options) {
  const auto deadline = call.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return options.default_deadline;
  const absl::Duration left = absl::FromChrono(deadline - std::chrono::system_clock::now());
  return std::clamp(left, absl::ZeroDuration(), options.max_deadline);
}

std::string TraceIdOfCall(const grpc::CallbackServerContext& call) {
  const auto found = call.client_metadata().find("traceparent");
  if (found == call.client_metadata().end()) return "";
  return std::string(TraceIdOf({found->second.data(), found->second.size()}));
}

}  // namespace krait
