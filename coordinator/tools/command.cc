#include "coordinator/tools/command.h"

#include <cstdio>

#include "common/build_info.h"

namespace krait {
namespace {

constexpr Subcommand kSubcommands[] = {
    {"up", "start a whole cluster on this machine and keep it alive", &DeclareUp},
    {"generate", "stream one generation to standard output", &DeclareGenerate},
    {"chat", "a conversation with the model", &DeclareChat},
    {"status", "the cluster's workers", &DeclareStatus},
    {"drain", "stop placing requests on a worker, or accepting them at all", &DeclareDrain},
    {"inspect", "what a model file or folder holds (krait-engine)", &DeclareInspect},
    {"convert", "write a model as a Hugging Face folder; cut layers (krait-engine)",
     &DeclareConvert},
    {"bench serve", "load a running cluster and measure what clients see", &DeclareBenchServe},
    {"bench decode", "measure the engine without RPC (krait-engine)", &DeclareBenchDecode},
};

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return kExitUsage;
    case absl::StatusCode::kDataLoss:
      return kExitBadModel;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return kExitInternal;
    default:
      return kExitUnavailable;
  }
}

}  // namespace

int RunKrait(int argc, const char* const* argv) {
  return RunSubcommands("krait", "Serves hybrid Mamba/attention language models.", kSubcommands,
                        argc, argv);
}

int EndCommand(const char* command, const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "krait %s: %s\n", command, std::string(status.message()).c_str());
  return ExitCodeOf(status);
}

void AddCoordinatorOption(CLI::App& app, std::string& address) {
  address = kDefaultCoordinator;
  app.add_option("--coordinator,--address", address, "the coordinator's host:port")
      ->type_name("ADDRESS")
      ->capture_default_str();
}

}  // namespace krait
