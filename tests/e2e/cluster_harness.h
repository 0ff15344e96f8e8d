#pragma once

// A whole krait cluster as real processes on loopback, and a client that talks to it as a user
// would.

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "krait/config.pb.h"
#include "krait/v1/cluster.grpc.pb.h"
#include "krait/v1/generation.grpc.pb.h"
#include "tests/e2e/process.h"

namespace krait {

// What a stream delivered, checked while it came: chunks follow on without gap or overlap. Where
// nothing else is said: of choice 0.
struct GenerateOutcome {
  std::map<int, std::vector<int>> choices;  // token ids of each
  v1::Usage total_usage;
  std::vector<int> token_ids;
  std::string text;
  std::vector<float> logprobs;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  v1::Usage usage;
  grpc::Status status;
  bool contiguous = true;  // every choice
  int finish_chunks = 0;
};

using OnChunk = std::function<void(const v1::GenerateResponse&, grpc::ClientContext&)>;

// Runs one request to its end. `on_chunk` may cancel the context or do harm to the cluster.
GenerateOutcome RunGenerate(v1::GenerationService::Stub& generation,
                            const v1::GenerateRequest& request, const OnChunk& on_chunk,
                            absl::Duration deadline);

class Cluster {
 public:
  explicit Cluster(const std::string& model_path);
  ~Cluster();

  // Edits the coordinator's configuration; before Start.
  CoordinatorConfig& coordinator_config() { return coordinator_config_; }
  // Adds a worker; its configuration can be edited before Start. Ports are fixed, so a restarted
  // process is found at the same address.
  WorkerConfig& AddTarget(const std::string& name, int tensor_parallel_size = 1);
  // The same with its ranks in several processes: `name`, which serves, then "<name>.1" and so on.
  WorkerConfig& AddGroup(const std::string& name, int tensor_parallel_size, int processes);
  WorkerConfig& AddDraft(const std::string& name, const std::string& model_path);

  // What `name` is started with instead of krait-worker; its configuration is appended.
  void SetWorkerCommand(const std::string& name, std::vector<std::string> command);

  // Starts everything and waits until every worker is READY at the coordinator (60 s, else CHECK).
  void Start();
  void StartWorker(const std::string& name);  // all its processes
  void StartCoordinator();
  void WaitReady();

  Process& process(const std::string& name) { return processes_.at(name); }
  Process& coordinator() { return processes_.at("coordinator"); }
  std::string admin_address(const std::string& name) const;  // "host:port"

  v1::GenerationService::Stub& generation() { return *generation_; }
  v1::ClusterService::Stub& cluster() { return *cluster_; }
  std::shared_ptr<grpc::Channel> channel() const { return channel_; }

  GenerateOutcome Generate(const v1::GenerateRequest& request, const OnChunk& on_chunk = nullptr,
                           absl::Duration deadline = absl::Seconds(60)) {
    return RunGenerate(*generation_, request, on_chunk, deadline);
  }

  v1::ListWorkersResponse ListWorkers();
  // Waits until `predicate` holds of ListWorkers. False after `timeout`.
  bool WaitFor(const std::function<bool(const v1::ListWorkersResponse&)>& predicate,
               absl::Duration timeout);

 private:
  std::string WriteConfig(const std::string& name, const google::protobuf::Message& config) const;

  const std::string model_path_;
  std::string run_dir_;
  CoordinatorConfig coordinator_config_;
  std::map<std::string, WorkerConfig> workers_;
  std::map<std::string, std::vector<std::string>> commands_;  // by worker
  std::map<std::string, Process> processes_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::ClusterService::Stub> cluster_;
};

// GET http://address/path; the body, or an empty string.
std::string HttpGet(const std::string& address, const std::string& path);

// The value of a series in a Prometheus text exposition: the sum over label sets of `name` whose
// line contains `label_part`.
double MetricValue(const std::string& exposition, const std::string& name,
                   const std::string& label_part = "");

}  // namespace krait
