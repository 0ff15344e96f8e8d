#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "worker/sampling/sampling_params.h"
#include "worker/tools/engine_flags.h"

namespace krait {

// What `krait-engine generate` is to do.
struct GenerateOptions {
  EngineFlags flags;
  std::vector<TokenId> prompt_ids;  // or
  std::string prompt_ids_file;
  SamplingParams sampling;  // greedy by default
  int max_tokens = 64;
  int max_running = 8;
  bool ignore_eos = false;
  bool as_json = false;
};

// Declares its options; parsing fills `options`, which must outlive `app`.
void AddGenerateOptions(CLI::App& app, GenerateOptions& options);

}  // namespace krait
