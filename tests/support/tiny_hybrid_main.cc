// krait-tiny-hybrid: writes a tiny random hybrid as a Hugging Face folder, for quick starts and
// trials without a real one. The same mixers and seed always give the same bytes.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "tests/support/hybrid_checkpoint.h"

int main(int argc, char** argv) {
  krait::testing::HybridOptions options = krait::testing::ServedHybridOptions();
  std::string dir;
  CLI::App app("Writes a tiny random hybrid of attention, Mamba1 and Mamba2 layers into DIR.");
  app.add_option("DIR", dir, "a new folder")->required()->check(CLI::NonexistentPath);
  app.add_option("--mixers", options.mixers, "one letter a layer: A, 1 or 2")
      ->check([](const std::string& text) {
        return text.find_first_not_of("A12") == std::string::npos ? "" : "want A, 1 and 2 only";
      });
  app.add_flag("--fused", options.fused, "names mha.* and mamba.in_proj");
  app.add_option("--seed", options.base.seed, "of the weights");
  CLI11_PARSE(app, argc, argv);
  std::filesystem::create_directories(dir);
  const absl::Status status = WriteHybridFolder(MakeHybridModel(options), options, dir);
  if (status.ok()) return 0;
  std::fprintf(stderr, "krait-tiny-hybrid: %s\n", std::string(status.message()).c_str());
  return 69;
}
