#include "worker/server/coordinator_session.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr absl::Duration kMinHeartbeat = absl::Milliseconds(20);
constexpr absl::Duration kMaxHeartbeat = absl::Seconds(30);

std::shared_ptr<grpc::Channel> Dial(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

CoordinatorSession::CoordinatorSession(std::string address,
                                       const CoordinatorSessionOptions& options, EpochTable* epochs)
    : address_(std::move(address)),
      options_(options),
      epochs_(epochs),
      stub_(internal::v1::RegistryService::NewStub(Dial(address_))) {
  thread_ = std::thread([this] { Run(); });
}

CoordinatorSession::~CoordinatorSession() {
  Stop();
  thread_.join();
}

void CoordinatorSession::Poke() {
  absl::MutexLock lock(&mutex_);
  poked_ = true;
}

void CoordinatorSession::Stop() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
}

void CoordinatorSession::Run() {
  absl::Duration backoff = options_.min_backoff;
  for (;;) {
    const bool registered = epoch_ != 0;
    const absl::Status status = registered ? Heartbeat() : Register();
    Report(status);
    absl::Duration wait = heartbeat_interval_;
    if (status.ok()) {
      backoff = options_.min_backoff;
    } else if (registered && epoch_ == 0) {
      wait = absl::ZeroDuration();  // forgotten: register again at once
    } else {
      wait = backoff;
      backoff = std::min(backoff * 2, options_.max_backoff);
    }
    if (!WaitFor(wait)) break;
  }
  Deregister();
}

absl::Status CoordinatorSession::Register() {
  grpc::ClientContext context;
  SetDeadline(context);
  internal::v1::RegisterResponse response;
  const absl::Time asked = absl::Now();
  RETURN_IF_ERROR(FromGrpcStatus(stub_->Register(&context, options_.request, &response)));
  if (response.epoch() == 0) return absl::InternalError("the coordinator gave epoch 0");
  epoch_ = response.epoch();
  lease_ = absl::Milliseconds(response.lease_ms());
  heartbeat_interval_ = std::clamp(absl::Milliseconds(response.heartbeat_interval_ms()),
                                   kMinHeartbeat, kMaxHeartbeat);
  renewed_ = asked;
  epochs_->Set(address_, epoch_);
  LOG(INFO) << "coordinator=" << address_ << " epoch=" << epoch_ << " msg=\"registered\"";
  return Heartbeat();
}

absl::Status CoordinatorSession::Heartbeat() {
  internal::v1::HeartbeatRequest request = options_.status();
  request.set_name(options_.request.worker().name());
  request.set_epoch(epoch_);
  grpc::ClientContext context;
  SetDeadline(context);
  internal::v1::HeartbeatResponse response;
  const absl::Time asked = absl::Now();
  const absl::Status status = FromGrpcStatus(stub_->Heartbeat(&context, request, &response));
  if (status.ok()) {
    renewed_ = asked;
    if (response.drain()) options_.on_drain();
  } else if (absl::IsAborted(status) || absl::Now() - renewed_ > lease_) {
    Leave();
  }
  return status;
}

void CoordinatorSession::Leave() {
  epoch_ = 0;
  epochs_->Clear(address_);
}

void CoordinatorSession::Deregister() {
  if (epoch_ == 0) return;
  internal::v1::DeregisterRequest request;
  request.set_name(options_.request.worker().name());
  request.set_epoch(epoch_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
  internal::v1::DeregisterResponse response;
  stub_->Deregister(&context, request, &response);
  Leave();
}

// One line a change, not one an attempt.
void CoordinatorSession::Report(const absl::Status& status) {
  const std::string error = status.ok() ? "" : status.ToString();
  if (error == last_error_) return;
  last_error_ = error;
  if (error.empty()) {
    LOG(INFO) << "coordinator=" << address_ << " msg=\"in touch\"";
  } else {
    LOG(WARNING) << "coordinator=" << address_ << " msg=\"out of touch\" error=" << LogText(error);
  }
}

bool CoordinatorSession::WaitFor(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  const auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return poked_ || stopping_; };
  mutex_.AwaitWithTimeout(absl::Condition(&wake), duration);
  poked_ = false;
  return !stopping_;
}

void CoordinatorSession::SetDeadline(grpc::ClientContext& context) const {
  context.set_deadline(std::chrono::system_clock::now() +
                       absl::ToChronoMilliseconds(options_.call_timeout));
}

}  // namespace krait
