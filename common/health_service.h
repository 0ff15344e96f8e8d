#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/control_queue.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace krait {

// grpc.health.v1. gRPC's own implementation comes without a compiled descriptor, so that reflection
// cannot describe it; this one has it. Check is answered on the control queue, so that a busy
// server does not look like a dead one. At most 64 watchers. Thread-safe.
class HealthService final
    : public grpc::health::v1::Health::WithAsyncMethod_Check<
          grpc::health::v1::Health::WithCallbackMethod_Watch<grpc::health::v1::Health::Service>> {
 public:
  // Knows "" and `services`; NOT_SERVING until SetServing(true).
  explicit HealthService(const std::vector<std::string>& services);
  ~HealthService() override;

  // Once, after the server was started.
  void ServeOn(ControlQueue& queue);
  void SetServing(bool serving);

  // Ends every watch, so that a server that waits for its calls can stop. Idempotent.
  void Shutdown();

  // Sends the state now and on every change; SERVICE_UNKNOWN for a service it does not know.
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  class Watcher;

  // NOT_FOUND for a service it does not know.
  absl::Status Answer(const grpc::health::v1::HealthCheckRequest& request,
                      grpc::health::v1::HealthCheckResponse& response);
  void Forget(Watcher* watcher);

  const std::set<std::string> services_;
  absl::Mutex mutex_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<Watcher*, std::shared_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
