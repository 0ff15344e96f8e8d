#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/admin_server.h"
#include "common/clock.h"
#include "common/grpc_server.h"
#include "common/metrics.h"
#include "common/self_probe.h"
#include "worker/server/epoch_table.h"
#include "worker/server/registration.h"
#include "worker/server/served_role.h"
#include "worker/worker_config.h"

namespace krait {

// What a worker server gives its role; all of it outlives the role.
struct RoleParts {
  std::string instance_id;  // names this process
  const Clock* clock;
  Metrics* metrics;
  const EpochTable* epochs;
  std::function<void()> on_drain;  // a Drain RPC has come
};
using RoleFactory = std::function<std::unique_ptr<ServedRole>(const RoleParts&)>;

// A worker process: listens, loads, registers, serves, drains; the same for both roles. Made,
// started and stopped by one thread; StartDraining is thread-safe.
class WorkerServer {
 public:
  // `clock` outlives this. `on_fatal` is called, on any thread, when the process has to end.
  WorkerServer(const WorkerOptions& options, const Clock* clock,
               std::function<void(const absl::Status&)> on_fatal);
  // Serves a role of the caller's instead of the one that `options` name.
  WorkerServer(const WorkerOptions& options, const Clock* clock, const RoleFactory& make_role);
  // Stops without waiting for anyone, if Stop was not called.
  ~WorkerServer();
  WorkerServer(const WorkerServer&) = delete;

  // Binds both ports and writes the port file. /livez answers from here on, /readyz with 503.
  // UNAVAILABLE if a port or the file cannot be had; the errors of GrpcServer::Start.
  absl::Status Listen();
  // Loads the model, runs a first step, then turns READY and registers. The errors of
  // ServedRole::Load.
  absl::Status Load(const std::function<void(double fraction)>& on_progress);

  // DRAINING: health NOT_SERVING, coordinators told at once, no new requests; what runs goes on.
  void StartDraining();
  // Drains for at most `grace`, leaves the coordinators, and stops serving. False if something
  // still ran then and was cancelled.
  bool Stop(absl::Duration grace);

  const GrpcServer& grpc_server() const { return *grpc_server_; }
  const AdminServer& admin_server() const { return *admin_server_; }
  const std::string& name() const { return name_; }

 private:
  enum class State { kJoining, kReady, kDraining };

  CoordinatorSessionOptions MakeSessionOptions();
  internal::v1::HeartbeatRequest MakeHeartbeat() const;
  absl::Status Ready() const;
  std::string MetricsText();

  const WorkerOptions options_;
  const std::string instance_id_;
  EpochTable epochs_;
  Metrics metrics_;
  prometheus::Gauge& ready_;
  prometheus::Gauge& coordinators_;
  prometheus::Gauge& epochs_given_;
  std::unique_ptr<ServedRole> role_;
  std::string name_;       // constant after Listen
  std::string advertise_;  // constant after Listen
  std::atomic<State> state_{State::kJoining};
  std::unique_ptr<GrpcServer> grpc_server_;
  std::unique_ptr<AdminServer> admin_server_;
  std::unique_ptr<SelfProbe> self_probe_;
  absl::Mutex mutex_;
  std::unique_ptr<Registration> registration_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
