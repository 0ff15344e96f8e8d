#include "coordinator/tools/load_connections.h"

#include <chrono>

#include "absl/strings/str_cat.h"

namespace krait {
namespace {

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, int window) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);             // what fails is counted
  if (window > 0) {
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, window);
  }
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

LoadConnections::LoadConnections(const std::string& address, int count, int window)
    : address_(address) {
  for (int i = 0; i < count; ++i) {
    channels_.push_back(MakeChannel(address, window));
    stubs_.push_back(v1::GenerationService::NewStub(channels_.back()));
  }
}

absl::Status LoadConnections::Connect(absl::Duration timeout) {
  const auto deadline = std::chrono::system_clock::now() + absl::ToChronoMicroseconds(timeout);
  for (const auto& channel : channels_) {
    if (channel->WaitForConnected(deadline)) continue;
    return absl::UnavailableError(absl::StrCat("cannot connect to ", address_));
  }
  return absl::OkStatus();
}

}  // namespace krait
