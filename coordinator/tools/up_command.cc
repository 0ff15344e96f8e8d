// krait up: a whole cluster on this machine. Starts coordinator, drafts and targets, waits until
// all are ready, says how to call them, starts again what dies, and drains on SIGTERM.

#include <google/protobuf/util/json_util.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/build_info.h"
#include "common/clock.h"
#include "common/json_document.h"
#include "common/logging.h"
#include "common/owned_units.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "coordinator/tools/child_process.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/cluster_plan.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/sibling.h"
#include "coordinator/tools/supervisor.h"

namespace krait {
namespace {

constexpr timespec kPoll = {0, 100'000'000};
constexpr absl::Duration kStatusTimeout = absl::Seconds(1);
constexpr absl::Duration kStopGrace = absl::Seconds(10);

absl::Status MakeRunDir(ClusterConfig& config) {
  std::error_code error;
  if (config.run_dir().empty()) {
    std::string path = std::filesystem::temp_directory_path(error) / "krait-up-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) {
      return absl::UnavailableError(absl::StrCat("run_dir: cannot make ", path));
    }
    config.set_run_dir(path);
    return absl::OkStatus();
  }
  std::filesystem::create_directories(config.run_dir(), error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("run_dir: ", config.run_dir(), ": ", error.message()));
}

absl::StatusOr<ProcessSpec> WriteProcess(const std::string& run_dir, const std::string& name,
                                         const std::string& program,
                                         const google::protobuf::Message& config) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.add_whitespace = true;
  std::string json;
  CHECK(google::protobuf::util::MessageToJsonString(config, &json, options).ok());
  const std::string path = absl::StrCat(run_dir, "/", name, ".json");
  std::ofstream file(path);
  file << json;
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return ProcessSpec{.name = name,
                     .argv = {SiblingPath(program), "--config", path},
                     .log_path = absl::StrCat(run_dir, "/", name, ".log")};
}

// What process `index` of a worker's group is told.
WorkerConfig ConfigOfProcess(const WorkerConfig& worker, int index) {
  WorkerConfig config = worker;
  const int num_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads = worker.has_threads() ? worker.threads() : num_cores;
  const int64_t share = OwnedUnits(threads, index, worker.processes()).size();
  const int64_t ranks = OwnedUnits(worker.tensor_parallel_size(), index, worker.processes()).size();
  config.set_threads(static_cast<int>(std::max(share, ranks)));
  config.set_process_index(index);
  if (index == 0) return config;
  config.clear_coordinators();
  config.clear_listen();
  config.set_admin_listen("127.0.0.1:0");
  return config;
}

// The names of a worker's processes: its own is the one that serves.
std::vector<std::string> ProcessNames(const WorkerConfig& worker) {
  std::vector<std::string> names = {worker.name()};
  for (int i = 1; i < worker.processes(); ++i) names.push_back(absl::StrCat(worker.name(), ".", i));
  return names;
}

// One cluster, from its first process to its last. Main thread only.
class Cluster {
 public:
  Cluster(ClusterConfig config, bool as_json)
      : config_(std::move(config)),
        as_json_(as_json),
        client_(config_.coordinator().listen()),
        supervisor_(clock_) {}

  absl::Status Start();
  // Until a signal, or a child that cannot be helped. The exit code.
  int Run(const sigset_t& signals);

 private:
  absl::Status StartWorker(const WorkerConfig& worker);
  void Announce(const v1::ListWorkersResponse& workers) const;
  void CheckReady();
  int GiveUp(const std::string& name, int code);
  void Stop();

  ClusterConfig config_;
  const bool as_json_;
  const RealClock clock_;
  ClusterClient client_;
  Supervisor supervisor_;
  bool announced_ = false;
};

absl::Status Cluster::Start() {
  CoordinatorConfig& coordinator = *config_.mutable_coordinator();
  const std::string& dir = config_.run_dir();
  coordinator.set_port_file(absl::StrCat(dir, "/coordinator.port"));
  ASSIGN_OR_RETURN(ProcessSpec spec,
                   WriteProcess(dir, "coordinator", "krait-coordinator", coordinator));
  RETURN_IF_ERROR(supervisor_.Start(std::move(spec)));
  // Drafts first: a target that finds its draft at once speculates from its first request on.
  for (const auto role : {WorkerConfig::DRAFT, WorkerConfig::TARGET}) {
    for (WorkerConfig& worker : *config_.mutable_workers()) {
      if (worker.role() != role) continue;
      RETURN_IF_ERROR(StartWorker(worker));
    }
  }
  return absl::OkStatus();
}

absl::Status Cluster::StartWorker(const WorkerConfig& worker) {
  const std::vector<std::string> names = ProcessNames(worker);
  for (size_t i = 0; i < names.size(); ++i) {
    WorkerConfig config = names.size() == 1 ? worker : ConfigOfProcess(worker, static_cast<int>(i));
    config.set_port_file(absl::StrCat(config_.run_dir(), "/", names[i], ".port"));
    ASSIGN_OR_RETURN(ProcessSpec spec,
                     WriteProcess(config_.run_dir(), names[i], "krait-worker", config));
    if (names.size() > 1) spec.unit = worker.name();
    RETURN_IF_ERROR(supervisor_.Start(std::move(spec)));
  }
  return absl::OkStatus();
}

int Cluster::Run(const sigset_t& signals) {
  for (;;) {
    if (sigtimedwait(&signals, nullptr, &kPoll) > 0) {
      Stop();
      return 0;
    }
    std::string name;
    const auto code = supervisor_.Tick(&name);
    if (code.has_value() && !announced_) return GiveUp(name, *code);
    if (!announced_) CheckReady();
  }
}

void Cluster::CheckReady() {
  const auto workers = client_.ListWorkers(kStatusTimeout);
  if (!workers.ok()) return;
  int ready = 0;
  for (const v1::Worker& worker : workers->workers()) {
    ready += worker.state() == v1::WORKER_STATE_READY;
  }
  if (ready < config_.workers_size()) return;
  announced_ = true;
  Announce(*workers);
}

void Cluster::Announce(const v1::ListWorkersResponse& workers) const {
  const CoordinatorConfig& coordinator = config_.coordinator();
  if (as_json_) {
    std::printf("%s\n", DumpJson({{"address", coordinator.listen()},
                                  {"admin_address", coordinator.admin_listen()},
                                  {"run_dir", config_.run_dir()},
                                  {"pid", getpid()},
                                  {"topology", TopologyJson(workers)}})
                            .c_str());
  } else {
    std::printf(
        "krait serves on %s (logs: %s)\n"
        "  ask:   krait generate --coordinator %s --prompt 'Once upon a time'\n"
        "  watch: krait status --coordinator %s; curl http://%s/metrics\n"
        "  stop:  kill %d\n",
        coordinator.listen().c_str(), config_.run_dir().c_str(), coordinator.listen().c_str(),
        coordinator.listen().c_str(), coordinator.admin_listen().c_str(), getpid());
  }
  std::fflush(stdout);
}

// A process that says at its start that its configuration or model is bad says so every time.
int Cluster::GiveUp(const std::string& name, int code) {
  const std::string log = absl::StrCat(config_.run_dir(), "/", name, ".log");
  std::fprintf(stderr, "krait up: %s ended with code %d: %s\n(log: %s)\n", name.c_str(), code,
               LastLine(log).c_str(), log.c_str());
  Stop();
  return code;
}

// The coordinator first: it finishes what runs and takes nothing new. Then nobody needs the
// workers.
void Cluster::Stop() {
  const auto& coordinator = config_.coordinator();
  const int drain_ms = coordinator.has_drain_timeout_ms() ? coordinator.drain_timeout_ms() : 30'000;
  bool clean = supervisor_.Stop({"coordinator"}, absl::Milliseconds(drain_ms) + kStopGrace);
  std::vector<std::string> workers;
  for (const WorkerConfig& worker : config_.workers()) {
    for (std::string& name : ProcessNames(worker)) workers.push_back(std::move(name));
  }
  clean &= supervisor_.Stop(workers, kStopGrace);
  LOG(INFO) << "clean=" << clean << " restarts=" << supervisor_.restarts() << " msg=\"stopped\"";
}

sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

absl::StatusOr<ClusterConfig> Plan(const ClusterOptions& options) {
  ASSIGN_OR_RETURN(ClusterConfig config, MakeClusterConfig(options));
  RETURN_IF_ERROR(WireCluster(&PickFreePort, config));
  RETURN_IF_ERROR(MakeRunDir(config));
  return config;
}

int Up(const ClusterOptions& options, bool as_json) {
  auto config = Plan(options);
  if (!config.ok()) return EndCommand("up", config.status());
  const sigset_t signals = BlockSignals();  // before gRPC starts its threads
  Cluster cluster(*std::move(config), as_json);
  const absl::Status started = cluster.Start();
  if (!started.ok()) return EndCommand("up", started);
  return cluster.Run(signals);
}

}  // namespace

std::function<int()> DeclareUp(CLI::App& app) {
  const auto options = std::make_shared<ClusterOptions>();
  AddClusterOptions(app, *options);
  const auto as_json = std::make_shared<bool>(false);
  app.add_flag("--json", *as_json, "one line of JSON when ready, instead of text");
  return [options, as_json] { return Up(*options, *as_json); };
}

}  // namespace krait
