#include "worker/worker_config.h"

#include <filesystem>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/field_error.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr int kDefaultMaxRequestKib = 4096;

struct IntField {
  const char* name;
  std::optional<int> value;  // absent: `out` keeps its default
  int low;
  int high;
  int* out;
};

// An int32 proto field of `config`, with its presence.
#define KRAIT_INT_FIELD(field, low, high)                                                          \
  IntField {                                                                                       \
#field, config.has_##field() ? std::optional < int>(config.field()) : std::nullopt, low, high, \
        &options.field                                                                             \
  }

absl::Status SetInt(const IntField& field) {
  if (!field.value.has_value()) return absl::OkStatus();
  if (*field.value < field.low || *field.value > field.high) {
    return FieldError(field.name, absl::StrCat("must be ", field.low, " to ", field.high, ", got ",
                                               *field.value));
  }
  *field.out = *field.value;
  return absl::OkStatus();
}

absl::Status SetSizes(const WorkerConfig& config, WorkerOptions& options) {
  const int no_limit = 1 << 30;
  for (const IntField& field : {
           KRAIT_INT_FIELD(tensor_parallel_size, 1, 64),
           KRAIT_INT_FIELD(processes, 1, 64),
           KRAIT_INT_FIELD(process_index, 0, 63),
           KRAIT_INT_FIELD(threads, 1, 1024),
           KRAIT_INT_FIELD(page_size, 8, 256),
           KRAIT_INT_FIELD(kv_cache_mib, 1, 1 << 22),
           KRAIT_INT_FIELD(max_running, 1, 4096),
           KRAIT_INT_FIELD(state_slots, 1, 4096),
           KRAIT_INT_FIELD(max_waiting, 0, 65'536),
           KRAIT_INT_FIELD(max_num_batched_tokens, 1, 65'536),
           KRAIT_INT_FIELD(max_context_tokens, 2, no_limit),
           KRAIT_INT_FIELD(max_draft_tokens, 0, 15),
           KRAIT_INT_FIELD(reserved_output_tokens, 1, 1 << 20),
       }) {
    RETURN_IF_ERROR(SetInt(field));
  }
  if ((options.page_size & (options.page_size - 1)) != 0) {
    return FieldError("page_size", absl::StrCat("must be a power of two, got ", options.page_size));
  }
  if (!config.has_state_slots()) options.state_slots = options.max_running;
  if (options.state_slots > options.max_running) {
    return FieldError("state_slots",
                      absl::StrCat("must be at most max_running = ", options.max_running, ", got ",
                                   options.state_slots));
  }
  if (options.max_num_batched_tokens < options.max_running) {
    return FieldError("max_num_batched_tokens",
                      absl::StrCat("must be at least max_running = ", options.max_running, ", got ",
                                   options.max_num_batched_tokens));
  }
  return absl::OkStatus();
}

absl::Status SetProcesses(const WorkerConfig& config, WorkerOptions& options) {
  if (options.processes > options.tensor_parallel_size) {
    return FieldError("processes",
                      absl::StrCat("must be at most tensor_parallel_size = ",
                                   options.tensor_parallel_size, ", got ", options.processes));
  }
  if (options.process_index >= options.processes) {
    return FieldError("process_index", absl::StrCat("must be below processes = ", options.processes,
                                                    ", got ", options.process_index));
  }
  const int64_t ranks = options.own_ranks().size();
  if (!config.has_threads()) options.threads = std::max<int>(options.threads, ranks);
  if (options.threads < ranks) {
    return FieldError("threads", absl::StrCat("must be at least the ranks of this process = ",
                                              ranks, ", got ", options.threads));
  }
  if (options.processes == 1) return absl::OkStatus();
  if (config.role() == WorkerConfig::DRAFT) {
    return FieldError("processes", "a DRAFT worker has one");
  }
  const auto address = ParseHostPort(config.group_address());
  if (!address.ok()) return FieldError("group_address", std::string(address.status().message()));
  if (address->port == 0) return FieldError("group_address", "needs a port other than 0");
  if (!IsLoopbackHost(address->host) && !config.insecure_plaintext()) {
    return FieldError("group_address",
                      absl::StrCat(config.group_address(),
                                   " is not loopback: processes talk in the clear, which needs "
                                   "insecure_plaintext"));
  }
  options.group_address = *address;
  return absl::OkStatus();
}

absl::Status SetDeadlines(const WorkerConfig& config, WorkerOptions& options) {
  int step_ms = 60'000;
  RETURN_IF_ERROR(SetInt(
      {"step_deadline_ms",
       config.has_step_deadline_ms() ? std::optional<int>(config.step_deadline_ms()) : std::nullopt,
       100, 3'600'000, &step_ms}));
  options.step_deadline = absl::Milliseconds(step_ms);
  int slow_ms = 30'000;
  RETURN_IF_ERROR(SetInt({"slow_reader_timeout_ms",
                          config.has_slow_reader_timeout_ms()
                              ? std::optional<int>(config.slow_reader_timeout_ms())
                              : std::nullopt,
                          1, 86'400'000, &slow_ms}));
  options.slow_reader_timeout = absl::Milliseconds(slow_ms);
  int drain_ms = 30'000;
  RETURN_IF_ERROR(SetInt(
      {"drain_timeout_ms",
       config.has_drain_timeout_ms() ? std::optional<int>(config.drain_timeout_ms()) : std::nullopt,
       0, 86'400'000, &drain_ms}));
  options.drain_timeout = absl::Milliseconds(drain_ms);
  if (!config.has_proposal_deadline_ms()) return absl::OkStatus();
  const double ms = config.proposal_deadline_ms();
  if (!(ms > 0 && ms <= 10'000)) {  // also refuses NaN
    return FieldError("proposal_deadline_ms",
                      absl::StrCat("must be above 0 and at most 10000, got ", ms));
  }
  options.proposal_deadline = absl::Milliseconds(ms);
  return absl::OkStatus();
}

absl::Status SetDraftSource(const WorkerConfig& config, WorkerOptions& options) {
  const int sources =
      !config.draft_address().empty() + !config.draft_model_path().empty() + config.ngram();
  if (sources > 1) {
    return FieldError("draft_address",
                      "at most one of draft_address, draft_model_path and ngram may be set");
  }
  if (sources > 0 && config.role() == WorkerConfig::DRAFT) {
    return FieldError("role", "a DRAFT worker has no draft of its own");
  }
  if (!config.draft_address().empty()) {
    const auto address = ParseHostPort(config.draft_address());
    if (!address.ok()) return FieldError("draft_address", std::string(address.status().message()));
    options.draft_source = DraftSource::kRemote;
    options.draft_address = config.draft_address();
  } else if (!config.draft_model_path().empty()) {
    options.draft_source = DraftSource::kModel;
    options.draft_model_path = config.draft_model_path();
  } else if (config.ngram()) {
    options.draft_source = DraftSource::kNgram;
  }
  options.fixed_draft_tokens = config.fixed_draft_tokens();
  return absl::OkStatus();
}

absl::Status CheckName(const char* field, const std::string& name) {
  const bool plain = name.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789._-") == std::string::npos;
  if (name.size() > 128 || !plain) {
    return FieldError(field, "must be at most 128 of A-Z a-z 0-9 . _ -");
  }
  return absl::OkStatus();
}

RopeScalingRule RopeScalingRuleOf(const WorkerConfig& config) {
  switch (config.rope_scaling()) {
    case WorkerConfig::APPLY:
      return RopeScalingRule::kApply;
    case WorkerConfig::IGNORE:
      return RopeScalingRule::kIgnore;
    default:
      return RopeScalingRule::kByNames;
  }
}

// "/models/SmolLM2-135M-Instruct.gguf" serves "SmolLM2-135M-Instruct".
std::string DefaultModelName(const std::string& path) {
  const std::filesystem::path clean = std::filesystem::path(path).lexically_normal();
  const std::filesystem::path last = clean.has_filename() ? clean : clean.parent_path();
  return last.extension() == ".gguf" ? last.stem().string() : last.filename().string();
}

absl::Status SetAddresses(const WorkerConfig& config, WorkerOptions& options) {
  const std::string local = "127.0.0.1:0";
  const std::string listen = config.listen().empty() ? local : config.listen();
  options.admin_listen = config.admin_listen().empty() ? local : config.admin_listen();
  options.advertise = config.advertise();
  for (const auto& [field, address] :
       {std::pair<const char*, std::string>{"listen", listen},
        {"admin_listen", options.admin_listen},
        {"advertise", options.advertise.empty() ? local : options.advertise}}) {
    const auto parsed = ParseHostPort(address);
    if (!parsed.ok()) return FieldError(field, std::string(parsed.status().message()));
  }
  for (const std::string& coordinator : config.coordinators()) {
    const bool dns = absl::StartsWith(coordinator, "dns:///");
    const auto parsed = ParseHostPort(dns ? coordinator.substr(7) : coordinator);
    if (!parsed.ok()) return FieldError("coordinators", std::string(parsed.status().message()));
    options.coordinators.push_back(coordinator);
  }
  ASSIGN_OR_RETURN(options.grpc, MakeGrpcServerOptions(listen, config.insecure_plaintext(),
                                                       config.limits(), kDefaultMaxRequestKib));
  return absl::OkStatus();
}

absl::Status SetDevice(const WorkerConfig& config, WorkerOptions& options) {
  const absl::StatusOr<Device> device = ParseDevice(config.device());
  if (!device.ok()) return FieldError("device", std::string(device.status().message()));
  options.device = *device;
  return absl::OkStatus();
}

// Once device, tensor_parallel_size and processes are known.
absl::Status SetComm(const WorkerConfig& config, WorkerOptions& options) {
  switch (config.comm()) {
    case WorkerConfig::IN_PROCESS:
      options.comm = CommKind::kInProcess;
      break;
    case WorkerConfig::GLOO:
      options.comm = CommKind::kGloo;
      break;
    case WorkerConfig::NCCL:
      options.comm = CommKind::kNccl;
      break;
    default:
      break;
  }
  return ChooseComm(options.comm, options.device.kind, options.tensor_parallel_size,
                    options.processes)
      .status();
}

}  // namespace

absl::StatusOr<WorkerOptions> MakeWorkerOptions(const WorkerConfig& config, int num_cores) {
  WorkerOptions options;
  if (config.model_path().empty()) return FieldError("model_path", "must be set");
  options.model_path = config.model_path();
  options.model_name =
      config.model_name().empty() ? DefaultModelName(config.model_path()) : config.model_name();
  RETURN_IF_ERROR(CheckName("model_name", options.model_name));
  RETURN_IF_ERROR(CheckName("name", config.name()));
  options.name = config.name();
  options.role = config.role() == WorkerConfig::DRAFT ? WorkerRole::kDraft : WorkerRole::kTarget;
  options.port_file = config.port_file();
  ASSIGN_OR_RETURN(options.log, MakeLogOptions(config.log_format(), config.log_verbosity()));
  RETURN_IF_ERROR(SetDevice(config, options));
  options.weight_dtype = config.weight_dtype() == WorkerConfig::F32 ? DType::kF32 : DType::kBF16;
  options.rope_scaling = RopeScalingRuleOf(config);
  options.threads = num_cores;
  RETURN_IF_ERROR(SetAddresses(config, options));
  RETURN_IF_ERROR(SetSizes(config, options));
  RETURN_IF_ERROR(SetProcesses(config, options));
  RETURN_IF_ERROR(SetComm(config, options));
  RETURN_IF_ERROR(SetDeadlines(config, options));
  RETURN_IF_ERROR(SetDraftSource(config, options));
  return options;
}

}  // namespace krait
