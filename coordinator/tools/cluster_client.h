#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "krait/v1/cluster.grpc.pb.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// A coordinator as the tools call it: plaintext, a deadline on every call. Thread-safe.
class ClusterClient {
 public:
  explicit ClusterClient(const std::string& address);

  absl::StatusOr<v1::ListWorkersResponse> ListWorkers(absl::Duration timeout);
  absl::Status Drain(const std::string& worker, absl::Duration timeout);
  v1::GenerationService::Stub& generation() { return *generation_; }

 private:
  std::unique_ptr<v1::ClusterService::Stub> cluster_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
};

// "TARGET", "READY": the enum's name without its prefix.
std::string RoleName(v1::WorkerRole role);
std::string StateName(v1::WorkerState state);

// The processes of the cluster as a JSON array of {name, role, pid, ranks, devices}; the
// coordinator first. Workers that are gone are left out.
nlohmann::ordered_json TopologyJson(const v1::ListWorkersResponse& workers);

}  // namespace krait
