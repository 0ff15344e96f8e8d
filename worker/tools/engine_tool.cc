#include "worker/tools/engine_tool.h"

#include <cstdio>
#include <string>

#include "common/build_info.h"
#include "worker/comm/nccl_library.h"

namespace krait {
namespace {

constexpr Subcommand kSubcommands[] = {
    {"inspect", "what a model file or folder holds", &DeclareInspect},
    {"convert", "write a model as a Hugging Face folder; cut layers", &DeclareConvert},
    {"generate", "tokens from token ids, the engine without RPC", &DeclareGenerate},
    {"bench decode", "what a decoding step costs", &DeclareBenchDecode},
};

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
      return kExitBadModel;
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    default:
      return kExitInternal;
  }
}

}  // namespace

int RunEngineTool(int argc, const char* const* argv) {
  SetNcclDefaults();  // before any thread starts
  return RunSubcommands("krait-engine", "Works on model files, and on the engine without RPC.",
                        kSubcommands, argc, argv);
}

int EndCommand(const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return ExitCodeOf(status);
}

}  // namespace krait
