// libFuzzer's entry points (https://llvm.org/docs/LibFuzzer.html).

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_format.h"
#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

constexpr char kWriteSeeds[] = "--write_seeds=";

void WriteSeeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  int number = 0;
  for (const std::string& seed : krait::FuzzSeeds()) {
    std::ofstream(folder / absl::StrFormat("seed-%03d", number++), std::ios::binary) << seed;
  }
}

}  // namespace

// `--write_seeds=FOLDER` writes the seeds and exits: a corpus to start from.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  krait::SetMinLogSeverity(krait::LogSeverity::kFatal);
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp((*argv)[i], kWriteSeeds, sizeof(kWriteSeeds) - 1) != 0) continue;
    WriteSeeds((*argv)[i] + sizeof(kWriteSeeds) - 1);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  krait::FuzzOne({reinterpret_cast<const char*>(data), size});
  return 0;
}
