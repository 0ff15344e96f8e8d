#include "common/self_probe.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <chrono>

#include "absl/time/clock.h"
#include "common/build_info.h"
#include "common/logging.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace krait {
namespace {

void ExitProcess() { _exit(kExitInternal); }

}  // namespace

SelfProbe::SelfProbe(std::string address, SelfProbeOptions options, std::function<void()> on_dead)
    : address_(std::move(address)),
      options_(options),
      on_dead_(on_dead ? std::move(on_dead) : ExitProcess) {
  thread_ = std::thread([this] { Run(); });
}

SelfProbe::~SelfProbe() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void SelfProbe::Run() {
  int misses = 0;
  while (WaitForNext()) {
    misses = ProbeOnce() ? 0 : misses + 1;
    if (misses == 0) continue;
    LOG(WARNING) << "misses=" << misses << " msg=\"own gRPC port does not answer\"";
    if (misses < options_.max_misses) continue;
    LOG(ERROR) << "address=" << address_ << " msg=\"own gRPC port is dead, exiting\"";
    on_dead_();
    return;
  }
}

// A new connection each time: that the old ones still work says nothing about accept().
bool SelfProbe::ProbeOnce() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto channel =
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       absl::ToChronoMilliseconds(options_.timeout));
  grpc::health::v1::HealthCheckResponse response;
  return grpc::health::v1::Health::NewStub(channel)->Check(&context, {}, &response).ok();
}

bool SelfProbe::WaitForNext() {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.interval);
  return !stopping_;
}

}  // namespace krait
