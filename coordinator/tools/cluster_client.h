#pragma once

// What the subcommands share in talking to a coordinator.

#include <grpcpp/grpcpp.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "krait/v1/cluster.grpc.pb.h"

namespace krait {

using Json = nlohmann::ordered_json;

inline constexpr char kDefaultCoordinator[] = "127.0.0.1:50051";

std::shared_ptr<grpc::Channel> ConnectTo(const std::string& coordinator);

// Every worker that is not gone. UNAVAILABLE if the coordinator does not answer within `timeout`.
absl::StatusOr<v1::ListWorkersResponse> ListWorkers(const std::shared_ptr<grpc::Channel>& channel,
                                                    absl::Duration timeout);

// "TARGET", "READY", ...: the enum's name without its prefix.
std::string RoleName(v1::WorkerRole role);
std::string StateName(v1::WorkerState state);

// [{role, name, pid, address, ranks, devices}]: the coordinator first, then every worker.
Json TopologyJson(const v1::ListWorkersResponse& workers, const std::string& coordinator);

// Bytes as a JSON string: invalid UTF-8 becomes U+FFFD. One document, one line.
std::string DumpJson(const Json& json);

// "krait: <what>: <message>" on standard error; the exit code for the status.
int Fail(const std::string& what, const absl::Status& status);

}  // namespace krait
