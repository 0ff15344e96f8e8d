#include "tests/e2e/cluster_harness.h"

#include <google/protobuf/util/json_util.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/logging.h"
#include "httplib.h"

namespace krait {
namespace {

std::string MakeRunDir() {
  std::string path =
      absl::StrCat(std::filesystem::temp_directory_path().string(), "/krait-e2e-XXXXXX");
  CHECK(mkdtemp(path.data()) != nullptr) << path;
  return path;
}

std::string Loopback(int port) { return absl::StrCat("127.0.0.1:", port); }

std::chrono::system_clock::time_point FromNow(absl::Duration duration) {
  return std::chrono::system_clock::now() + absl::ToChronoMilliseconds(duration);
}

void Collect(const v1::GenerateResponse& chunk, GenerateOutcome& outcome) {
  std::vector<int>& choice = outcome.choices[chunk.index()];
  if (chunk.first_index() != static_cast<int>(choice.size())) outcome.contiguous = false;
  choice.insert(choice.end(), chunk.token_ids().begin(), chunk.token_ids().end());
  if (chunk.has_total_usage()) outcome.total_usage = chunk.total_usage();
  if (chunk.index() != 0) return;
  outcome.token_ids.insert(outcome.token_ids.end(), chunk.token_ids().begin(),
                           chunk.token_ids().end());
  outcome.text += chunk.text();
  for (const auto& position : chunk.logprobs()) {
    outcome.logprobs.push_back(position.token().logprob());
  }
  if (chunk.finish_reason() == v1::FINISH_REASON_UNSPECIFIED) return;
  ++outcome.finish_chunks;
  outcome.finish_reason = chunk.finish_reason();
  outcome.usage = chunk.usage();
}

}  // namespace

Cluster::Cluster(const std::string& model_path) : model_path_(model_path), run_dir_(MakeRunDir()) {
  coordinator_config_.set_listen(Loopback(PickFreePort()));
  coordinator_config_.set_admin_listen(Loopback(PickFreePort()));
  coordinator_config_.set_model_path(model_path);
  coordinator_config_.set_model_name("tiny");
}

Cluster::~Cluster() {
  processes_.clear();
  std::error_code ignored;
  if (getenv("KRAIT_E2E_KEEP") == nullptr) std::filesystem::remove_all(run_dir_, ignored);
}

WorkerConfig& Cluster::AddTarget(const std::string& name, int tensor_parallel_size) {
  WorkerConfig& config = workers_[name];
  config.set_name(name);
  config.set_role(WorkerConfig::TARGET);
  config.set_model_path(model_path_);
  config.set_model_name("tiny");
  config.set_listen(Loopback(PickFreePort()));
  config.set_admin_listen(Loopback(PickFreePort()));
  config.add_coordinators(coordinator_config_.listen());
  config.set_tensor_parallel_size(tensor_parallel_size);
  config.set_threads(tensor_parallel_size);
  config.set_kv_cache_mib(64);
  return config;
}

WorkerConfig& Cluster::AddGroup(const std::string& name, int tensor_parallel_size, int processes) {
  WorkerConfig& config = AddTarget(name, tensor_parallel_size);
  config.set_processes(processes);
  config.set_group_address(Loopback(PickFreePort()));
  return config;
}

WorkerConfig& Cluster::AddDraft(const std::string& name, const std::string& model_path) {
  WorkerConfig& config = AddTarget(name);
  config.set_role(WorkerConfig::DRAFT);
  config.set_model_path(model_path);
  return config;
}

void Cluster::SetWorkerCommand(const std::string& name, std::vector<std::string> command) {
  commands_[name] = std::move(command);
}

std::string Cluster::WriteConfig(const std::string& name,
                                 const google::protobuf::Message& config) const {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  CHECK(google::protobuf::util::MessageToJsonString(config, &json, options).ok());
  const std::string path = absl::StrCat(run_dir_, "/", name, ".json");
  std::ofstream(path) << json;
  return path;
}

void Cluster::StartCoordinator() {
  processes_["coordinator"] = Process::Start({BinaryPath("krait-coordinator"), "--config",
                                              WriteConfig("coordinator", coordinator_config_)},
                                             run_dir_ + "/coordinator.log");
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);  // it does not listen yet
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  channel_ = grpc::CreateCustomChannel(coordinator_config_.listen(),
                                       grpc::InsecureChannelCredentials(), arguments);
  generation_ = v1::GenerationService::NewStub(channel_);
  cluster_ = v1::ClusterService::NewStub(channel_);
}

void Cluster::StartWorker(const std::string& name) {
  const auto found = commands_.find(name);
  const std::vector<std::string> program =
      found == commands_.end() ? std::vector<std::string>{BinaryPath("krait-worker")}
                               : found->second;
  WorkerConfig config = workers_.at(name);
  for (int i = 0; i < std::max(1, config.processes()); ++i) {
    const std::string process = i == 0 ? name : absl::StrCat(name, ".", i);
    if (i > 0) {
      config.set_process_index(i);
      config.set_admin_listen(Loopback(0));
    }
    std::vector<std::string> command = program;
    command.insert(command.end(), {"--config", WriteConfig(process, config)});
    processes_[process] = Process::Start(command, absl::StrCat(run_dir_, "/", process, ".log"));
  }
}

void Cluster::Start() {
  StartCoordinator();
  for (const auto& [name, config] : workers_) StartWorker(name);
  WaitReady();
}

void Cluster::WaitReady() {
  const bool ready = WaitFor(
      [&](const v1::ListWorkersResponse& workers) {
        size_t count = 0;
        for (const auto& worker : workers.workers()) {
          count += worker.state() == v1::WORKER_STATE_READY;
        }
        return count == workers_.size();
      },
      absl::Seconds(60));
  if (ready) return;
  for (auto& [name, process] : processes_) LOG(ERROR) << name << ": " << process.Log();
  LOG(FATAL) << "the cluster did not become ready";
}

std::string Cluster::admin_address(const std::string& name) const {
  return name == "coordinator" ? coordinator_config_.admin_listen()
                               : workers_.at(name).admin_listen();
}

GenerateOutcome RunGenerate(v1::GenerationService::Stub& generation,
                            const v1::GenerateRequest& request, const OnChunk& on_chunk,
                            absl::Duration deadline) {
  GenerateOutcome outcome;
  grpc::ClientContext context;
  context.set_deadline(FromNow(deadline));
  auto reader = generation.Generate(&context, request);
  v1::GenerateResponse chunk;
  while (reader->Read(&chunk)) {
    Collect(chunk, outcome);
    if (on_chunk) on_chunk(chunk, context);
  }
  outcome.status = reader->Finish();
  return outcome;
}

v1::ListWorkersResponse Cluster::ListWorkers() {
  grpc::ClientContext context;
  context.set_deadline(FromNow(absl::Seconds(2)));
  // A call that fails at once drives no connection attempt: nobody else does here.
  context.set_wait_for_ready(true);
  v1::ListWorkersResponse response;
  if (!cluster_->ListWorkers(&context, {}, &response).ok()) response.Clear();
  return response;
}

bool Cluster::WaitFor(const std::function<bool(const v1::ListWorkersResponse&)>& predicate,
                      absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  while (absl::Now() < end) {
    if (predicate(ListWorkers())) return true;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return false;
}

std::string HttpGet(const std::string& address, const std::string& path) {
  httplib::Client client("http://" + address);
  const auto response = client.Get(path.c_str());
  return response ? response->body : "";
}

double MetricValue(const std::string& exposition, const std::string& name,
                   const std::string& label_part) {
  double sum = 0;
  std::istringstream lines(exposition);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, name.size(), name) != 0) continue;
    if (line.size() > name.size() && line[name.size()] != '{' && line[name.size()] != ' ') continue;
    if (!absl::StrContains(line, label_part)) continue;
    double value = 0;
    if (absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value)) sum += value;
  }
  return sum;
}

}  // namespace krait
