#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/admin_server.h"
#include "common/clock.h"
#include "common/grpc_server.h"
#include "common/metrics.h"
#include "common/self_probe.h"
#include "coordinator/cluster/health_checker.h"
#include "coordinator/cluster/worker_pool.h"
#include "coordinator/coordinator_config.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/routing/router.h"
#include "coordinator/server/cluster_service.h"
#include "coordinator/server/generation_service.h"
#include "coordinator/server/registry_service.h"
#include "coordinator/server/text_model.h"

namespace krait {

// A whole coordinator, wired up: main.cc runs one, tests run one in their process. Created and
// destroyed on one thread; the getters and StartDraining are thread-safe.
class Coordinator {
 public:
  struct Parts {
    CoordinatorOptions options;
    std::unique_ptr<const TextModel> model;
    const Clock* clock;  // outlives the coordinator
    std::unique_ptr<WorkerClientFactory> workers;
    uint64_t first_epoch = 1;
    bool background = true;  // false: nothing happens in time but by Tick (tests)
  };
  // Serves when it returns. The errors of GrpcServer::Start and AdminServer::Start.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(Parts parts);
  // Cancels what runs.
  ~Coordinator();

  // Health NOT_SERVING and not ready; new generations are still accepted. They go on to be until
  // StartDraining.
  void StartLeaving();
  // Health NOT_SERVING, new generations UNAVAILABLE; what runs goes on.
  void StartDraining();
  // StartLeaving for endpoint_lag, then StartDraining, then waits until nothing runs, at most
  // drain_timeout. True if everything ended by itself. New generations are still answered with
  // UNAVAILABLE afterwards. A process ends then, by _exit: its connections break, which clients see as
  // UNAVAILABLE too, while gRPC, shutting down, would end calls that just arrive with CANCELLED.
  bool Drain();

  // Ends leases that ran out, looks after waiting streams. The background thread's work.
  void Tick();

  const GrpcServer& grpc_server() const { return *grpc_server_; }
  const AdminServer& admin_server() const { return *admin_server_; }
  WorkerRegistry& registry() { return registry_; }
  AdmissionController& admission() { return admission_; }
  WaitEstimator& wait_estimator() { return wait_estimator_; }
  SessionTable& sessions() { return generation_service_.sessions(); }
  // /metrics, with gauges up to date.
  std::string MetricsText();
  // /readyz: neither leaving nor draining, and a worker is ready.
  absl::Status Ready() const;

 private:
  Coordinator(Parts parts, std::unique_ptr<RoutingPolicy> policy);
  absl::Status Listen();

  const CoordinatorOptions options_;
  const bool background_;
  const Clock& clock_;
  const std::unique_ptr<const TextModel> model_;
  std::unique_ptr<WorkerClientFactory> client_factory_;  // gone first: its calls use what follows
  Metrics metrics_registry_;
  CoordinatorMetrics metrics_;
  WorkerRegistry registry_;
  AdmissionController admission_;
  RetryBudget retry_budget_;
  WaitEstimator wait_estimator_;
  WorkerPool pool_;
  Router router_;
  HealthChecker health_checker_;
  const SessionContext session_context_;
  GenerationService generation_service_;
  ClusterService cluster_service_;
  RegistryService registry_service_;
  std::unique_ptr<GrpcServer> grpc_server_;
  std::unique_ptr<AdminServer> admin_server_;
  std::unique_ptr<SelfProbe> self_probe_;
  std::atomic<bool> leaving_{false};
};

}  // namespace krait
