#include "coordinator/tools/cluster_client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "common/grpc_status.h"

namespace krait {
namespace {

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

void SetTimeout(absl::Duration timeout, grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
}

nlohmann::ordered_json ProcessJson(const std::string& name, const std::string& role, int64_t pid,
                                   const v1::Worker& worker) {
  nlohmann::ordered_json devices = nlohmann::ordered_json::array();
  for (const v1::Rank& rank : worker.ranks()) devices.push_back(rank.device());
  return {{"name", name},
          {"role", role},
          {"pid", pid},
          {"ranks", worker.ranks_size()},
          {"devices", std::move(devices)}};
}

}  // namespace

ClusterClient::ClusterClient(const std::string& address) {
  const auto channel = Connect(address);
  cluster_ = v1::ClusterService::NewStub(channel);
  generation_ = v1::GenerationService::NewStub(channel);
}

absl::StatusOr<v1::ListWorkersResponse> ClusterClient::ListWorkers(absl::Duration timeout) {
  grpc::ClientContext context;
  SetTimeout(timeout, context);
  v1::ListWorkersResponse response;
  const grpc::Status status = cluster_->ListWorkers(&context, {}, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

absl::Status ClusterClient::Drain(const std::string& worker, absl::Duration timeout) {
  grpc::ClientContext context;
  SetTimeout(timeout, context);
  v1::DrainRequest request;
  request.set_worker(worker);
  v1::DrainResponse response;
  return FromGrpcStatus(cluster_->Drain(&context, request, &response));
}

std::string RoleName(v1::WorkerRole role) {
  return std::string(absl::StripPrefix(v1::WorkerRole_Name(role), "WORKER_ROLE_"));
}

std::string StateName(v1::WorkerState state) {
  return std::string(absl::StripPrefix(v1::WorkerState_Name(state), "WORKER_STATE_"));
}

nlohmann::ordered_json TopologyJson(const v1::ListWorkersResponse& workers) {
  nlohmann::ordered_json processes = nlohmann::ordered_json::array();
  processes.push_back(ProcessJson("coordinator", "coordinator", workers.coordinator_pid(), {}));
  for (const v1::Worker& worker : workers.workers()) {
    if (worker.state() == v1::WORKER_STATE_GONE) continue;
    processes.push_back(ProcessJson(worker.name(), absl::AsciiStrToLower(RoleName(worker.role())),
                                    worker.pid(), worker));
  }
  return processes;
}

}  // namespace krait
