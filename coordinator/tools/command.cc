#include "coordinator/tools/command.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/build_info.h"

namespace krait {
namespace {

constexpr Command kCommands[] = {
    {"up", "start a whole cluster on this machine and keep it alive", &RunUp},
    {"generate", "stream one generation to standard output", &RunGenerate},
    {"status", "the cluster's workers", &RunStatus},
    {"drain", "stop placing requests on a worker, or accepting them at all", &RunDrain},
    {"inspect", "what a model file or folder holds (krait-engine)", &RunInspect},
    {"convert", "write a model as a Hugging Face folder; cut layers (krait-engine)", &RunConvert},
    {"bench", "measure the engine without RPC (krait-engine)", &RunBench},
};

std::string Usage() {
  std::string text = "usage: krait COMMAND [flags]    (krait COMMAND --help says more)\n";
  for (const Command& command : kCommands) {
    absl::StrAppend(&text, absl::StrFormat("  %-10s %s\n", command.name, command.summary));
  }
  return absl::StrCat(text, "  --help     this text\n  --version  version and build\n");
}

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

absl::Span<const Command> Commands() { return kCommands; }

int RunKrait(const CommandWords& words) {
  if (words.empty()) {
    std::fputs(Usage().c_str(), stderr);
    return kExitUsage;
  }
  if (words[0] == "--help" || words[0] == "help") {
    std::fputs(Usage().c_str(), stdout);
    return 0;
  }
  if (words[0] == "--version") {
    std::printf("%s\n", VersionLine("krait").c_str());
    return 0;
  }
  for (const Command& command : kCommands) {
    if (words[0] == command.name) return command.run({words.begin() + 1, words.end()});
  }
  std::fprintf(stderr, "krait: unknown command \"%s\"\n%s", words[0].c_str(), Usage().c_str());
  return kExitUsage;
}

int FailCommand(const char* command, const absl::Status& status) {
  std::fprintf(stderr, "krait %s: %s\n", command, std::string(status.message()).c_str());
  return ExitCodeOf(status);
}

std::string CoordinatorAddress(const Arguments& arguments) {
  return arguments.Get("coordinator", arguments.Get("address", kDefaultCoordinator));
}

}  // namespace krait
