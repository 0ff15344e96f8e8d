#include "coordinator/tools/cluster_plan.h"

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/config_loader.h"
#include "common/field_error.h"
#include "common/status_macros.h"

namespace krait {
namespace {

using PortPicker = std::function<absl::StatusOr<int>(const std::string&)>;

constexpr FlagSpec kFlags[] = {
    {"config", "FILE", "a ClusterConfig in JSON (proto/krait/config.proto)"},
    {"model", "PATH", "a .gguf file or a Hugging Face folder"},
    {"model-name", "NAME", "the name that clients use (default: the file's own)"},
    {"tp", "N", "tensor-parallel ranks of the target worker (default 1)"},
    {"threads", "N", "threads of the target worker (default: the number of cores)"},
    {"weight-dtype", "TYPE", "bf16 (default) or f32"},
    {"draft-model", "PATH", "a draft model, served by a process of its own"},
    {"draft-tokens", "K", "draft tokens a round: 0 to 15, or adaptive (default)"},
    {"ngram", nullptr, "speculate by prompt lookup instead of a draft model"},
    {"listen", "ADDRESS", "the coordinator's host:port (default 127.0.0.1:50051)"},
    {"admin-listen", "ADDRESS", "the coordinator's /metrics, /livez, /readyz"},
    {"run-dir", "DIR", "logs, configurations and port files (default: a new folder)"},
};

// One flag that is one field of a worker.
struct WorkerFlag {
  const char* flag;
  const char* field;
};
constexpr WorkerFlag kTargetFlags[] = {{"model", "model_path"},
                                       {"model-name", "model_name"},
                                       {"tp", "tensor_parallel_size"},
                                       {"threads", "threads"}};

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

absl::Status ApplyTargetFlags(const Arguments& arguments, WorkerConfig& target) {
  for (const WorkerFlag& flag : kTargetFlags) {
    if (!arguments.Has(flag.flag)) continue;
    RETURN_IF_ERROR(ApplyOverride(absl::StrCat(flag.field, "=", arguments.Get(flag.flag)), target));
  }
  if (arguments.Has("weight-dtype")) {
    const std::string dtype = absl::AsciiStrToUpper(arguments.Get("weight-dtype"));
    RETURN_IF_ERROR(ApplyOverride(absl::StrCat("weight_dtype=", dtype), target));
  }
  if (arguments.Has("ngram")) target.set_ngram(true);
  if (!arguments.Has("draft-tokens")) return absl::OkStatus();
  return SetDraftTokens(arguments.Get("draft-tokens"), target);
}

void ApplyCoordinatorFlags(const Arguments& arguments, ClusterConfig& config) {
  CoordinatorConfig& coordinator = *config.mutable_coordinator();
  if (arguments.Has("listen")) coordinator.set_listen(arguments.Get("listen"));
  if (arguments.Has("admin-listen")) coordinator.set_admin_listen(arguments.Get("admin-listen"));
  if (arguments.Has("model")) coordinator.set_model_path(arguments.Get("model"));
  if (arguments.Has("model-name")) coordinator.set_model_name(arguments.Get("model-name"));
  if (arguments.Has("run-dir")) config.set_run_dir(arguments.Get("run-dir"));
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

absl::Span<const FlagSpec> ClusterFlags() { return kFlags; }

absl::StatusOr<ClusterConfig> MakeClusterConfig(const Arguments& arguments) {
  ClusterConfig config;
  if (arguments.Has("config")) RETURN_IF_ERROR(LoadConfigFile(arguments.Get("config"), config));
  if (!arguments.Has("config") && !arguments.Has("model")) {
    return absl::InvalidArgumentError("--config or --model is needed");
  }
  if (arguments.Has("draft-model")) {
    FindOrAdd(WorkerConfig::DRAFT, config).set_model_path(arguments.Get("draft-model"));
  }
  RETURN_IF_ERROR(ApplyTargetFlags(arguments, FindOrAdd(WorkerConfig::TARGET, config)));
  ApplyCoordinatorFlags(arguments, config);
  if (config.coordinator().listen().empty() && !arguments.Has("config")) {
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
