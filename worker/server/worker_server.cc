#include "worker/server/worker_server.h"

#include <unistd.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/build_info.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/server/draft_role.h"
#include "worker/server/port_file.h"
#include "worker/server/target_role.h"

namespace krait {
namespace {

std::string RandomId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

// Calls that end with an answer get this long to deliver it once nothing runs any more.
constexpr absl::Duration kDeliveryGrace = absl::Seconds(2);

}  // namespace

WorkerServer::WorkerServer(const WorkerOptions& options, const Clock* clock,
                           std::function<void(const absl::Status&)> on_fatal)
    : WorkerServer(options, clock, [&](const RoleParts& parts) -> std::unique_ptr<ServedRole> {
        if (options.role == WorkerRole::kDraft) {
          return std::make_unique<DraftRole>(options, parts.instance_id, parts.clock,
                                             parts.metrics);
        }
        return std::make_unique<TargetRole>(options, parts.instance_id, parts.clock, parts.metrics,
                                            parts.epochs, parts.on_drain, on_fatal);
      }) {}

WorkerServer::WorkerServer(const WorkerOptions& options, const Clock* clock,
                           const RoleFactory& make_role)
    : options_(options),
      instance_id_(RandomId()),
      epochs_(/*registers=*/!options.coordinators.empty()),
      metrics_({{"model_name", options.model_name}, {"role", options.role_name()}}),
      ready_(metrics_.AddGauge("krait_ready", "1 while /readyz says yes.")),
      coordinators_(metrics_.AddGauge("krait_registered_coordinators",
                                      "Coordinators that this worker has a lease from.")),
      epochs_given_(metrics_.AddGauge("krait_registration_epochs",
                                      "Registrations of this process with coordinators, each of "
                                      "which gave it another epoch.")),
      role_(make_role({instance_id_, clock, &metrics_, &epochs_, [this] { StartDraining(); }})) {}

WorkerServer::~WorkerServer() { Stop(absl::ZeroDuration()); }

absl::Status WorkerServer::Listen() {
  ASSIGN_OR_RETURN(grpc_server_, GrpcServer::Start(options_.grpc, {role_->service()}));
  ASSIGN_OR_RETURN(admin_server_, AdminServer::Start(options_.admin_listen,
                                                     {.metrics = [this] { return MetricsText(); },
                                                      .live = [] { return absl::OkStatus(); },
                                                      .ready = [this] { return Ready(); }}));
  name_ = options_.name.empty() ? absl::StrCat(options_.role_name(), "-", grpc_server_->port())
                                : options_.name;
  advertise_ = options_.advertise.empty() ? grpc_server_->address() : options_.advertise;
  self_probe_ = std::make_unique<SelfProbe>(grpc_server_->loopback_address(), SelfProbeOptions{});
  return WritePortFile(options_.port_file, {.name = name_,
                                            .role = options_.role_name(),
                                            .port = grpc_server_->port(),
                                            .admin_port = admin_server_->port()});
}

std::string WorkerServer::MetricsText() {
  // Before Load there is nothing to bring up to date.
  if (state_ != State::kJoining) role_->UpdateMetrics();
  ready_.Set(state_ == State::kReady ? 1 : 0);
  coordinators_.Set(epochs_.size());
  epochs_given_.Set(epochs_.num_registrations());
  return metrics_.Serialize();
}

absl::Status WorkerServer::Ready() const {
  switch (state_) {
    case State::kJoining:
      return absl::UnavailableError("loading");
    case State::kDraining:
      return absl::UnavailableError("draining");
    case State::kReady:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status WorkerServer::Load(const std::function<void(double)>& on_progress) {
  RETURN_IF_ERROR(role_->Load(on_progress));
  State joining = State::kJoining;
  if (state_.compare_exchange_strong(joining, State::kReady)) grpc_server_->SetServing(true);
  LOG(INFO) << "name=" << name_ << " role=" << options_.role_name()
            << " address=" << grpc_server_->address() << " admin=" << admin_server_->address()
            << " model=" << options_.model_name << " msg=\"ready\"";
  if (options_.coordinators.empty()) return absl::OkStatus();
  auto registration =
      std::make_unique<Registration>(options_.coordinators, MakeSessionOptions(), &epochs_);
  absl::MutexLock lock(&mutex_);
  registration_ = std::move(registration);
  return absl::OkStatus();
}

CoordinatorSessionOptions WorkerServer::MakeSessionOptions() {
  CoordinatorSessionOptions session;
  session.request.set_wire_version(kWireVersion);
  session.request.set_instance_id(instance_id_);
  v1::Worker& worker = *session.request.mutable_worker();
  worker.set_name(name_);
  worker.set_address(advertise_);
  worker.set_pid(getpid());
  worker.set_model(options_.model_name);
  worker.set_build_id(BuildId());
  role_->Describe(session.request);
  session.status = [this] { return MakeHeartbeat(); };
  session.on_drain = [this] { StartDraining(); };
  return session;
}

internal::v1::HeartbeatRequest WorkerServer::MakeHeartbeat() const {
  internal::v1::HeartbeatRequest heartbeat;
  heartbeat.set_state(state_ == State::kDraining ? v1::WORKER_STATE_DRAINING
                                                 : v1::WORKER_STATE_READY);
  role_->FillLoad(heartbeat);
  return heartbeat;
}

void WorkerServer::StartDraining() {
  if (state_.exchange(State::kDraining) != State::kReady) return;
  LOG(INFO) << "name=" << name_ << " msg=\"draining\"";
  role_->Drain();
  grpc_server_->SetServing(false);
  absl::MutexLock lock(&mutex_);
  if (registration_ != nullptr) registration_->Poke();
}

bool WorkerServer::Stop(absl::Duration grace) {
  if (grpc_server_ == nullptr) return true;
  const bool loaded = state_ != State::kJoining;
  StartDraining();
  const bool idle = !loaded || role_->WaitIdle(grace);
  self_probe_.reset();
  // What was generated is still on its way: streams end before the coordinators hear that this
  // worker has gone, or they would give up on the streams.
  grpc_server_->Shutdown(idle ? kDeliveryGrace : absl::ZeroDuration());
  std::unique_ptr<Registration> registration;
  {
    absl::MutexLock lock(&mutex_);
    registration = std::move(registration_);
  }
  registration.reset();
  admin_server_.reset();
  role_.reset();
  grpc_server_.reset();
  return idle;
}

}  // namespace krait
