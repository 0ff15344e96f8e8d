#include <google/protobuf/util/json_util.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/build_info.h"
#include "common/clock.h"
#include "common/config_loader.h"
#include "common/status_macros.h"
#include "coordinator/tools/child_process.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/cluster_plan.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/sibling.h"
#include "coordinator/tools/supervisor.h"

namespace krait {
namespace {

struct UpOptions {
  std::string config, model, draft_model, listen, run_dir, weight_dtype;
  int tensor_parallel_size = 1;
  int threads = 0;
  int draft_tokens = -1;  // adaptive
  bool ngram = false, json = false;
};

// A port that nothing uses now. The process that gets it binds it within the second; a port taken
// in between shows as a clear error of that process.
int PickPort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  const bool ok = fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  if (fd >= 0) close(fd);
  return ok ? ntohs(address.sin_port) : 0;
}

absl::StatusOr<ClusterConfig> ConfigFromFlags(const UpOptions& options) {
  if (options.model.empty()) return absl::InvalidArgumentError("--config or --model is needed");
  ClusterConfig config;
  config.mutable_coordinator()->set_model_path(options.model);
  WorkerConfig& target = *config.add_workers();
  target.set_tensor_parallel_size(options.tensor_parallel_size);
  if (options.threads > 0) target.set_threads(options.threads);
  target.set_ngram(options.ngram);
  if (options.draft_tokens >= 0) {
    target.set_max_draft_tokens(options.draft_tokens);
    target.set_fixed_draft_tokens(true);
  }
  if (!options.weight_dtype.empty()) {
    RETURN_IF_ERROR(ApplyOverride("weight_dtype=" + options.weight_dtype, target));
  }
  if (!options.draft_model.empty()) {
    WorkerConfig& draft = *config.add_workers();
    draft.set_role(WorkerConfig::DRAFT);
    draft.set_model_path(options.draft_model);
  }
  return config;
}

absl::StatusOr<ClusterConfig> MakeConfig(const UpOptions& options) {
  ClusterConfig config;
  if (options.config.empty()) {
    ASSIGN_OR_RETURN(config, ConfigFromFlags(options));
  } else {
    RETURN_IF_ERROR(LoadConfigFile(options.config, config));
  }
  if (!options.listen.empty()) config.mutable_coordinator()->set_listen(options.listen);
  if (!options.run_dir.empty()) config.set_run_dir(options.run_dir);
  RETURN_IF_ERROR(CompleteClusterConfig(config, PickPort));
  return config;
}

absl::Status MakeRunDir(ClusterConfig& config) {
  std::error_code error;
  if (!config.run_dir().empty()) {
    std::filesystem::create_directories(config.run_dir(), error);
    if (error)
      return absl::InvalidArgumentError("run_dir " + config.run_dir() + ": " + error.message());
    return absl::OkStatus();
  }
  std::string path = std::filesystem::temp_directory_path().string() + "/krait-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) return absl::UnavailableError("cannot make " + path);
  config.set_run_dir(path);
  return absl::OkStatus();
}

absl::StatusOr<ChildSpec> MakeChild(const std::string& run_dir, const std::string& name,
                                    const std::string& binary,
                                    const google::protobuf::Message& config) {
  google::protobuf::util::JsonPrintOptions print;
  print.preserve_proto_field_names = true;
  print.add_whitespace = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(config, &json, print).ok()) {
    return absl::InternalError("cannot print the configuration of " + name);
  }
  const std::string path = absl::StrCat(run_dir, "/", name, ".config.json");
  std::ofstream(path) << json;
  return ChildSpec{
      name, {SiblingBinary(binary), "--config", path}, absl::StrCat(run_dir, "/", name, ".log")};
}

absl::StatusOr<std::vector<ChildSpec>> MakeChildren(const ClusterConfig& config) {
  std::vector<ChildSpec> children(1);
  ASSIGN_OR_RETURN(children[0], MakeChild(config.run_dir(), "coordinator", "krait-coordinator",
                                          config.coordinator()));
  for (const WorkerConfig& worker : config.workers()) {
    ASSIGN_OR_RETURN(ChildSpec child,
                     MakeChild(config.run_dir(), worker.name(), "krait-worker", worker));
    children.push_back(std::move(child));
  }
  return children;
}

// Waits for SIGINT or SIGTERM, at most `timeout`. Both are blocked in every thread.
bool StopRequested(absl::Duration timeout) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  const timespec limit = absl::ToTimespec(timeout);
  return sigtimedwait(&set, nullptr, &limit) > 0;
}

void BlockStopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

bool IsReady(const v1::ListWorkersResponse& workers, const ClusterConfig& config) {
  int ready = 0;
  bool draft_missing = false;
  for (const v1::Worker& worker : workers.workers()) {
    ready += worker.state() == v1::WORKER_STATE_READY;
    for (const WorkerConfig& wanted : config.workers()) {
      if (wanted.name() == worker.name() && !wanted.draft_address().empty()) {
        draft_missing |= !worker.draft_connected();
      }
    }
  }
  return ready >= config.workers_size() && !draft_missing;
}

void PrintReady(const UpOptions& options, const ClusterConfig& config,
                const Supervisor& supervisor) {
  const CoordinatorConfig& coordinator = config.coordinator();
  if (options.json) {
    Json pids = {{"coordinator", supervisor.pid("coordinator")}};
    for (const WorkerConfig& worker : config.workers()) {
      pids[worker.name()] = supervisor.pid(worker.name());
    }
    std::cout << DumpJson({{"address", coordinator.listen()},
                           {"admin_address", coordinator.admin_listen()},
                           {"run_dir", config.run_dir()},
                           {"pids", pids}})
              << std::endl;
    return;
  }
  std::cout << "ready: coordinator on " << coordinator.listen() << ", metrics on http://"
            << coordinator.admin_listen() << "/metrics, logs in " << config.run_dir() << "\n"
            << "  krait generate --coordinator " << coordinator.listen()
            << " --prompt 'Once upon a time'\n"
            << "  krait status --coordinator " << coordinator.listen() << std::endl;
}

// Runs until a stop signal. The exit code.
int Supervise(const UpOptions& options, const ClusterConfig& config, Supervisor& supervisor) {
  const RealClock clock;
  const auto channel = ConnectTo(config.coordinator().listen());
  bool ready = false;
  while (!StopRequested(absl::Milliseconds(100))) {
    for (const std::string& event : supervisor.Poll(clock.Now())) {
      std::cerr << "krait up: " << event << std::endl;
    }
    if (ready) continue;
    if (supervisor.hopeless_status()) {
      std::cerr << "krait up: " << LastLine(supervisor.hopeless_child()->log_path) << std::endl;
      return WEXITSTATUS(*supervisor.hopeless_status());
    }
    const auto workers = ListWorkers(channel, absl::Milliseconds(300));
    if (!workers.ok() || !IsReady(*workers, config)) continue;
    ready = true;
    PrintReady(options, config, supervisor);
  }
  std::cerr << "krait up: stopping" << std::endl;
  const int drain_ms =
      config.coordinator().has_drain_timeout_ms() ? config.coordinator().drain_timeout_ms() : 30000;
  supervisor.StopAll(absl::Milliseconds(drain_ms) + absl::Seconds(5));
  return 0;
}

int RunUp(const UpOptions& options) {
  BlockStopSignals();
  absl::StatusOr<ClusterConfig> config = MakeConfig(options);
  if (!config.ok()) return Fail("up", config.status());
  if (const absl::Status made = MakeRunDir(*config); !made.ok()) return Fail("up", made);
  absl::StatusOr<std::vector<ChildSpec>> children = MakeChildren(*config);
  if (!children.ok()) return Fail("up", children.status());
  Supervisor supervisor(*std::move(children));
  if (const absl::Status started = supervisor.StartAll(RealClock().Now()); !started.ok()) {
    return Fail("up", started);
  }
  std::cerr << "krait up: starting, logs in " << config->run_dir() << std::endl;
  return Supervise(options, *config, supervisor);
}

}  // namespace

void AddUpCommand(CLI::App& app, CommandRun& run) {
  auto options = std::make_shared<UpOptions>();
  CLI::App* command = app.add_subcommand(
      "up", "Start a whole cluster on this machine and keep it alive until SIGTERM or SIGINT");
  CLI::Option* config = command->add_option("--config", options->config,
                                            "ClusterConfig as JSON (proto/krait/config.proto)");
  command->add_option("--model", options->model, "a .gguf file or Hugging Face folder")
      ->excludes(config);
  command->add_option("--tp", options->tensor_parallel_size, "ranks of the target worker")
      ->capture_default_str()
      ->excludes(config);
  command
      ->add_option("--threads", options->threads, "threads of the target worker (default: cores)")
      ->excludes(config);
  command->add_option("--weight-dtype", options->weight_dtype, "BF16 (default) or F32")
      ->excludes(config);
  CLI::Option* draft = command->add_option("--draft-model", options->draft_model,
                                           "also start a draft worker with this model");
  draft->excludes(config);
  command->add_flag("--ngram", options->ngram, "draft by prompt lookup")
      ->excludes(config)
      ->excludes(draft);
  command
      ->add_option("--draft-tokens", options->draft_tokens,
                   "always so many draft tokens a round (default: adaptive)")
      ->excludes(config);
  command->add_option("--listen", options->listen,
                      "host:port of the coordinator (default: a free port)");
  command->add_option("--run-dir", options->run_dir,
                      "logs and configurations (default: a new folder)");
  command->add_flag("--json", options->json, "when ready, print one line of JSON");
  command->callback([options, &run] { run = [options] { return RunUp(*options); }; });
}

}  // namespace krait
