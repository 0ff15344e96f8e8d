#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/time/time.h"
#include "coordinator/coordinator_config.h"

namespace krait {

// What a client's call says beside its message.

// Until its deadline, at most max_deadline; default_deadline if it has none.
absl::Duration TimeLeft(const grpc::CallbackServerContext& call, const CoordinatorOptions& options);
// Of its traceparent header; empty: none.
std::string TraceIdOfCall(const grpc::CallbackServerContext& call);

}  // namespace krait
