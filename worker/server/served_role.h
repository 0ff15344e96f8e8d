#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/grpc_server.h"
#include "krait/internal/v1/worker.pb.h"

namespace krait {

// What a worker process does besides being one: a target generates, a draft proposes. Load is
// called once, by the thread that made it; after it everything is thread-safe.
class ServedRole {
 public:
  virtual ~ServedRole() = default;

  // Registered with the server before Load, and answers UNAVAILABLE until then.
  virtual NamedService service() = 0;
  // Loads the model and runs a first step. INVALID_ARGUMENT, NOT_FOUND or DATA_LOSS names what is
  // wrong with a file, a FieldError what is wrong with the configuration.
  virtual absl::Status Load(const std::function<void(double fraction)>& on_progress) = 0;

  // After Load: model, digests, ranks, sizes.
  virtual void Describe(internal::v1::RegisterRequest& request) const = 0;
  virtual void FillLoad(internal::v1::HeartbeatRequest& heartbeat) const = 0;
  // Brings gauges up to date before a scrape.
  virtual void UpdateMetrics() = 0;

  // No new work from now on.
  virtual void Drain() = 0;
  // True once there is no work left, at most `timeout` later.
  virtual bool WaitIdle(absl::Duration timeout) = 0;
};

}  // namespace krait
