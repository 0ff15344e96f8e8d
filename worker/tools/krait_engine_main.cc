// krait-engine: what works on model files and on the engine without RPC. The `krait` tool starts it
// for its own subcommands of the same names.

#include <cstdio>
#include <cstring>

#include "common/build_info.h"
#include "worker/tools/bench_decode.h"
#include "worker/tools/convert.h"
#include "worker/tools/generate.h"
#include "worker/tools/inspect.h"

namespace {

struct Subcommand {
  const char* name;
  int (*run)(int argc, char** argv);  // argv[0] is the subcommand's name
  const char* help;
};

constexpr Subcommand kSubcommands[] = {
    {"inspect", &krait::RunInspect, "what a model file or folder holds"},
    {"convert", &krait::RunConvert, "write a model as a Hugging Face folder; cut layers"},
    {"generate", &krait::RunGenerate, "tokens from token ids, the engine without RPC"},
    {"bench", &krait::RunBenchDecode, "bench decode: what a decoding step costs"},
};

void PrintUsage(FILE* out) {
  std::fputs("usage: krait-engine SUBCOMMAND [--help] ...\n", out);
  for (const Subcommand& subcommand : kSubcommands) {
    std::fprintf(out, "  %-10s %s\n", subcommand.name, subcommand.help);
  }
  std::fputs("  --help     this text\n  --version  version and build\n", out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    PrintUsage(stderr);
    return krait::kExitUsage;
  }
  if (std::strcmp(argv[1], "--help") == 0) {
    PrintUsage(stdout);
    return 0;
  }
  if (std::strcmp(argv[1], "--version") == 0) {
    std::printf("%s\n", krait::VersionLine("krait-engine").c_str());
    return 0;
  }
  for (const Subcommand& subcommand : kSubcommands) {
    if (std::strcmp(argv[1], subcommand.name) == 0) return subcommand.run(argc - 1, argv + 1);
  }
  std::fprintf(stderr, "%s: unknown subcommand\n", argv[1]);
  PrintUsage(stderr);
  return krait::kExitUsage;
}
