#include "coordinator/tools/cluster_client.h"

#include <chrono>
#include <iostream>

#include "common/build_info.h"
#include "common/grpc_status.h"

namespace krait {
namespace {

std::string WithoutPrefix(const std::string& name, size_t prefix) {
  return name.size() > prefix ? name.substr(prefix) : name;
}

}  // namespace

std::shared_ptr<grpc::Channel> ConnectTo(const std::string& coordinator) {
  return grpc::CreateChannel(coordinator, grpc::InsecureChannelCredentials());
}

absl::StatusOr<v1::ListWorkersResponse> ListWorkers(const std::shared_ptr<grpc::Channel>& channel,
                                                    absl::Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
  context.set_wait_for_ready(true);
  v1::ListWorkersResponse response;
  const grpc::Status status =
      v1::ClusterService::NewStub(channel)->ListWorkers(&context, {}, &response);
  if (status.error_code() == grpc::DEADLINE_EXCEEDED) {
    return absl::UnavailableError("no coordinator answers");
  }
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

std::string RoleName(v1::WorkerRole role) {
  return WithoutPrefix(v1::WorkerRole_Name(role), sizeof("WORKER_ROLE_") - 1);
}

std::string StateName(v1::WorkerState state) {
  return WithoutPrefix(v1::WorkerState_Name(state), sizeof("WORKER_STATE_") - 1);
}

Json TopologyJson(const v1::ListWorkersResponse& workers, const std::string& coordinator) {
  Json topology = Json::array();
  topology.push_back({{"role", "COORDINATOR"},
                      {"name", "coordinator"},
                      {"pid", workers.coordinator_pid()},
                      {"address", coordinator},
                      {"ranks", Json::array()},
                      {"devices", Json::array()}});
  for (const v1::Worker& worker : workers.workers()) {
    Json ranks = Json::array(), devices = Json::array();
    for (const v1::Rank& rank : worker.ranks()) {
      ranks.push_back(rank.rank());
      devices.push_back(rank.device());
    }
    topology.push_back({{"role", RoleName(worker.role())},
                        {"name", worker.name()},
                        {"pid", worker.pid()},
                        {"address", worker.address()},
                        {"ranks", ranks},
                        {"devices", devices}});
  }
  return topology;
}

std::string DumpJson(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int Fail(const std::string& what, const absl::Status& status) {
  std::cerr << "krait: " << what << ": " << status.ToString() << "\n";
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      return kExitUsage;
    case absl::StatusCode::kInternal:
      return kExitInternal;
    default:
      return kExitUnavailable;
  }
}

}  // namespace krait
