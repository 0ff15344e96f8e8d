#include "coordinator/tools/cluster_plan.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/config_loader.h"
#include "common/field_error.h"
#include "common/status_macros.h"

namespace krait {
namespace {

using PortPicker = std::function<absl::StatusOr<int>(const std::string&)>;

constexpr int kMaxRanks = 64;
constexpr int kMaxThreads = 1024;

WorkerConfig* FindWorker(WorkerConfig::Role role, ClusterConfig& config) {
  for (WorkerConfig& worker : *config.mutable_workers()) {
    if (worker.role() == role) return &worker;
  }
  return nullptr;
}

WorkerConfig& FindOrAdd(WorkerConfig::Role role, ClusterConfig& config) {
  WorkerConfig* worker = FindWorker(role, config);
  if (worker == nullptr) {
    worker = config.add_workers();
    worker->set_role(role);
  }
  return *worker;
}

absl::Status SetDraftTokens(const std::string& value, WorkerConfig& target) {
  if (value == "adaptive") {
    target.set_fixed_draft_tokens(false);
    return absl::OkStatus();
  }
  target.set_fixed_draft_tokens(true);
  return ApplyOverride(absl::StrCat("max_draft_tokens=", value), target);
}

absl::Status ApplyTargetOptions(const ClusterOptions& options, WorkerConfig& target) {
  if (options.model) target.set_model_path(*options.model);
  if (options.model_name) target.set_model_name(*options.model_name);
  if (options.tp) target.set_tensor_parallel_size(*options.tp);
  if (options.processes) target.set_processes(*options.processes);
  if (options.threads) target.set_threads(*options.threads);
  if (options.weight_dtype) {
    target.set_weight_dtype(*options.weight_dtype == "f32" ? WorkerConfig::F32
                                                           : WorkerConfig::BF16);
  }
  if (options.ngram) target.set_ngram(true);
  if (!options.draft_tokens) return absl::OkStatus();
  return SetDraftTokens(*options.draft_tokens, target);
}

void ApplyCoordinatorOptions(const ClusterOptions& options, ClusterConfig& config) {
  CoordinatorConfig& coordinator = *config.mutable_coordinator();
  if (options.listen) coordinator.set_listen(*options.listen);
  if (options.admin_listen) coordinator.set_admin_listen(*options.admin_listen);
  if (options.model) coordinator.set_model_path(*options.model);
  if (options.model_name) coordinator.set_model_name(*options.model_name);
  if (options.run_dir) config.set_run_dir(*options.run_dir);
}

// Gives `address` a host and a port that is fixed.
absl::Status FixPort(const PortPicker& pick_port, std::string& address) {
  ASSIGN_OR_RETURN(HostPort where, ParseHostPort(address.empty() ? "127.0.0.1:0" : address));
  if (where.port == 0) {
    ASSIGN_OR_RETURN(where.port, pick_port(where.host));
  }
  address = FormatHostPort(where.host, where.port);
  return absl::OkStatus();
}

// What this machine dials to reach a listener.
std::string DialAddress(const std::string& listen) {
  const HostPort where = ParseHostPort(listen).value();
  if (!IsWildcardHost(where.host)) return listen;
  return FormatHostPort(where.host == "::" ? "::1" : "127.0.0.1", where.port);
}

absl::Status NameWorkers(ClusterConfig& config) {
  std::set<std::string> names = {"coordinator"};
  int num_targets = 0;
  int num_drafts = 0;
  for (WorkerConfig& worker : *config.mutable_workers()) {
    const bool draft = worker.role() == WorkerConfig::DRAFT;
    const int number = draft ? num_drafts++ : num_targets++;
    if (worker.name().empty()) worker.set_name(absl::StrCat(draft ? "draft-" : "target-", number));
    if (!names.insert(worker.name()).second) {
      return FieldError("workers.name", absl::StrCat("two processes are called ", worker.name()));
    }
  }
  if (num_targets == 0) return FieldError("workers", "no worker of role TARGET");
  return absl::OkStatus();
}

absl::Status FixPorts(const PortPicker& pick_port, ClusterConfig& config) {
  CoordinatorConfig& coordinator = *config.mutable_coordinator();
  RETURN_IF_ERROR(FixPort(pick_port, *coordinator.mutable_listen()));
  RETURN_IF_ERROR(FixPort(pick_port, *coordinator.mutable_admin_listen()));
  for (WorkerConfig& worker : *config.mutable_workers()) {
    RETURN_IF_ERROR(FixPort(pick_port, *worker.mutable_listen()));
    RETURN_IF_ERROR(FixPort(pick_port, *worker.mutable_admin_listen()));
    if (worker.processes() > 1)
      RETURN_IF_ERROR(FixPort(pick_port, *worker.mutable_group_address()));
  }
  return absl::OkStatus();
}

bool WantsDraft(const WorkerConfig& target) {
  return target.draft_address().empty() && target.draft_model_path().empty() && !target.ngram();
}

// The coordinator tokenizes for the model that the targets run: either may name it.
absl::Status ShareModelPath(ClusterConfig& config) {
  CoordinatorConfig& coordinator = *config.mutable_coordinator();
  WorkerConfig& first = *FindWorker(WorkerConfig::TARGET, config);
  if (coordinator.model_path().empty()) coordinator.set_model_path(first.model_path());
  if (coordinator.model_path().empty()) {
    return FieldError("coordinator.model_path", "must be set here or for a target");
  }
  for (WorkerConfig& worker : *config.mutable_workers()) {
    if (!worker.model_path().empty()) continue;
    if (worker.role() == WorkerConfig::DRAFT) {
      return FieldError("workers.model_path", absl::StrCat("must be set for ", worker.name()));
    }
    worker.set_model_path(coordinator.model_path());
  }
  return absl::OkStatus();
}

void Connect(ClusterConfig& config) {
  CoordinatorConfig& coordinator = *config.mutable_coordinator();
  WorkerConfig& first = *FindWorker(WorkerConfig::TARGET, config);
  if (coordinator.model_name().empty()) coordinator.set_model_name(first.model_name());
  const WorkerConfig* draft = FindWorker(WorkerConfig::DRAFT, config);
  for (WorkerConfig& worker : *config.mutable_workers()) {
    if (worker.coordinators_size() == 0) {
      worker.add_coordinators(DialAddress(coordinator.listen()));
    }
    if (worker.role() != WorkerConfig::TARGET) continue;
    if (worker.model_name().empty()) worker.set_model_name(coordinator.model_name());
    if (draft != nullptr && WantsDraft(worker)) {
      worker.set_draft_address(DialAddress(draft->listen()));
    }
  }
}

}  // namespace

void AddClusterOptions(CLI::App& app, ClusterOptions& options) {
  const auto text = [&app](const char* name, std::optional<std::string>& value, const char* type,
                           const char* help) {
    return app.add_option(name, value, help)->type_name(type);
  };
  CLI::App& source = *app.add_option_group("source");
  source
      .add_option("--config", options.config, "a ClusterConfig in JSON (proto/krait/config.proto)")
      ->type_name("FILE");
  source.add_option("--model", options.model, "a .gguf file or a Hugging Face folder")
      ->type_name("PATH");
  source.require_option(1, 2);
  text("--model-name", options.model_name, "NAME", "what clients call it (default: its own name)");
  app.add_option("--tp", options.tp, "tensor-parallel ranks of the target worker (default 1)")
      ->check(CLI::Range(1, kMaxRanks));
  app.add_option("--processes", options.processes,
                 "processes that share those ranks (default 1: they are its threads)")
      ->check(CLI::Range(1, kMaxRanks));
  app.add_option("--threads", options.threads, "threads of the target worker (default: all cores)")
      ->check(CLI::Range(1, kMaxThreads));
  text("--device", options.device, "DEVICE",
       "where target and draft run: cpu (default), cuda or cuda:N");
  text("--weight-dtype", options.weight_dtype, "TYPE", "default bf16")
      ->check(CLI::IsMember({"bf16", "f32"}, CLI::ignore_case));
  text("--draft-model", options.draft_model, "PATH", "a draft, served by a process of its own");
  text("--draft-tokens", options.draft_tokens, "K", "a round: 0 to 15, or adaptive (default)");
  app.add_flag("--ngram", options.ngram, "speculate by prompt lookup instead of a draft model");
  text("--listen", options.listen, "ADDRESS", "the coordinator's (default 127.0.0.1:50051)");
  text("--admin-listen", options.admin_listen, "ADDRESS", "its /metrics, /livez, /readyz");
  text("--run-dir", options.run_dir, "DIR", "logs, configurations, ports (default: a new folder)");
}

absl::StatusOr<ClusterConfig> MakeClusterConfig(const ClusterOptions& options) {
  ClusterConfig config;
  if (options.config) RETURN_IF_ERROR(LoadConfigFile(*options.config, config));
  if (options.draft_model) {
    FindOrAdd(WorkerConfig::DRAFT, config).set_model_path(*options.draft_model);
  }
  RETURN_IF_ERROR(ApplyTargetOptions(options, FindOrAdd(WorkerConfig::TARGET, config)));
  if (options.device) {
    for (WorkerConfig& worker : *config.mutable_workers()) worker.set_device(*options.device);
  }
  ApplyCoordinatorOptions(options, config);
  if (config.coordinator().listen().empty() && !options.config) {
    config.mutable_coordinator()->set_listen("127.0.0.1:50051");
  }
  return config;
}

absl::Status WireCluster(const PortPicker& pick_port, ClusterConfig& config) {
  RETURN_IF_ERROR(NameWorkers(config));
  RETURN_IF_ERROR(ShareModelPath(config));
  RETURN_IF_ERROR(FixPorts(pick_port, config));
  Connect(config);
  return absl::OkStatus();
}

}  // namespace krait
