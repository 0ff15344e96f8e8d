#include "coordinator/server/coordinator.h"

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/build_info.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// Waiting streams look at the cluster this often, and leases end this precisely.
constexpr absl::Duration kTick = absl::Milliseconds(20);
constexpr absl::Duration kStopGrace = absl::Seconds(1);
// For the last answers to leave the machine.
constexpr absl::Duration kDeliveryTime = absl::Milliseconds(200);

constexpr v1::WorkerRole kRoles[] = {v1::WORKER_ROLE_TARGET, v1::WORKER_ROLE_DRAFT};
constexpr v1::WorkerState kStates[] = {v1::WORKER_STATE_JOINING, v1::WORKER_STATE_READY,
                                       v1::WORKER_STATE_DRAINING, v1::WORKER_STATE_GONE};

void SetWorkerGauges(const std::vector<v1::Worker>& workers, CoordinatorMetrics& metrics) {
  for (const auto role : kRoles) {
    for (const auto state : kStates) metrics.workers(role, state).Set(0);
  }
  int with_draft = 0;
  for (const v1::Worker& worker : workers) {
    metrics.workers(worker.role(), worker.state()).Increment();
    with_draft += worker.draft_connected();
  }
  metrics.targets_with_draft.Set(with_draft);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(Parts parts) {
  ASSIGN_OR_RETURN(auto policy, MakeRoutingPolicy(parts.options.routing_policy));
  std::unique_ptr<Coordinator> coordinator(new Coordinator(std::move(parts), std::move(policy)));
  RETURN_IF_ERROR(coordinator->Listen());
  return coordinator;
}

Coordinator::Coordinator(Parts parts, std::unique_ptr<RoutingPolicy> policy)
    : options_(std::move(parts.options)),
      background_(parts.background),
      clock_(*parts.clock),
      model_(std::move(parts.model)),
      client_factory_(std::move(parts.workers)),
      metrics_registry_({{"model_name", options_.model_name}, {"role", "coordinator"}}),
      metrics_(metrics_registry_),
      registry_({.served = {options_.model_name, model_->digest()},
                 .lease = options_.lease,
                 .first_epoch = parts.first_epoch}),
      admission_({.max_requests = options_.max_requests,
                  .max_queued = options_.max_queued,
                  .token_budget = options_.token_budget}),
      retry_budget_(options_.retry_budget_percent, options_.retry_budget_burst),
      pool_(*client_factory_),
      router_(registry_, std::move(policy)),
      health_checker_(clock_, registry_, pool_),
      session_context_{clock_,        options_,        *model_, registry_, admission_,
                       retry_budget_, wait_estimator_, router_, pool_,     metrics_},
      generation_service_(session_context_),
      cluster_service_(registry_, admission_, generation_service_, [this] { StartDraining(); }),
      registry_service_(clock_, options_.lease, absl::StrFormat("%016x", RandomBits()), registry_,
                        metrics_) {
  metrics_.token_budget.Set(static_cast<double>(options_.token_budget));
}

absl::Status Coordinator::Listen() {
  ASSIGN_OR_RETURN(
      grpc_server_,
      GrpcServer::Start(options_.grpc,
                        {{v1::GenerationService::service_full_name(), &generation_service_},
                         {v1::ClusterService::service_full_name(), &cluster_service_},
                         {internal::v1::RegistryService::service_full_name(), &registry_service_,
                          [this](ControlQueue& queue) { registry_service_.ServeOn(queue); }}}));
  ASSIGN_OR_RETURN(admin_server_, AdminServer::Start(options_.admin_listen,
                                                     {.metrics = [this] { return MetricsText(); },
                                                      .live = [] { return absl::OkStatus(); },
                                                      .ready = [this] { return Ready(); }}));
  grpc_server_->SetServing(true);
  if (!background_) return absl::OkStatus();
  health_checker_.Start(kTick, [this] { Tick(); });
  self_probe_ = std::make_unique<SelfProbe>(grpc_server_->loopback_address(), SelfProbeOptions());
  return absl::OkStatus();
}

Coordinator::~Coordinator() {
  health_checker_.Stop();
  self_probe_.reset();
  admin_server_.reset();
  sessions().EndAll(absl::UnavailableError("the coordinator stops"));
  if (grpc_server_ != nullptr) grpc_server_->Shutdown(kStopGrace);
  client_factory_.reset();
}

void Coordinator::StartLeaving() {
  leaving_ = true;
  if (grpc_server_ != nullptr) grpc_server_->SetServing(false);
}

void Coordinator::StartDraining() {
  StartLeaving();
  generation_service_.StartDraining();
}

bool Coordinator::Drain() {
  StartLeaving();
  absl::SleepFor(options_.endpoint_lag);
  StartDraining();
  const bool idle = sessions().WaitEmpty(options_.drain_timeout);
  if (!idle) {
    LOG(WARNING) << "streams=" << sessions().size() << " msg=\"drain time is over, cutting them\"";
    sessions().EndAll(absl::UnavailableError("the coordinator's drain time is over"));
  }
  absl::SleepFor(kDeliveryTime);
  sessions().WaitEmpty(kStopGrace);  // those that were cut, or had been let in just before
  return idle;
}

void Coordinator::Tick() {
  metrics_.leases_expired.Increment(health_checker_.Sweep());
  sessions().PokeDue(clock_.Now());
}

std::string Coordinator::MetricsText() {
  const AdmissionController::Load load = admission_.load();
  metrics_.running.Set(load.requests - load.queued);
  metrics_.waiting.Set(load.queued);
  metrics_.tokens_in_flight.Set(static_cast<double>(load.tokens));
  metrics_.ready.Set(Ready().ok() ? 1 : 0);
  SetWorkerGauges(registry_.List(), metrics_);
  return metrics_registry_.Serialize();
}

absl::Status Coordinator::Ready() const {
  if (leaving_) return absl::UnavailableError("draining");
  if (registry_.Routable().empty()) return absl::UnavailableError("no worker is ready");
  return absl::OkStatus();
}

}  // namespace krait
