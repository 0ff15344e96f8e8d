#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "krait/v1/generation.pb.h"

namespace krait {

// A number of tokens, drawn evenly from [low, high].
struct TokenRange {
  int low;
  int high;
};

// What `krait bench serve` is to do.
struct LoadOptions {
  std::string coordinator;
  v1::GenerateRequest request;  // sampling, model, draft length; `seed` also drives the arrivals
  // Open loop: Poisson arrivals at this rate. Absent: closed loop, `concurrency` streams at a time.
  std::optional<double> rate;  // 1/s
  int concurrency = 8;
  int max_open = 20'000;  // of an open loop: an arrival beyond waits, and its latency counts that
  std::optional<int64_t> requests;   // at most so many
  std::optional<double> duration_s;  // no arrival later than this
  double warmup_s = 0;               // what arrives earlier is not measured
  TokenRange prompt_tokens = {32, 32};
  TokenRange output_tokens = {64, 64};
  std::string prompts_file;  // empty: made of common words
  bool chat = false;
  bool until_eos = false;
  double cancel_rate = 0;  // share of streams that are cancelled after a random number of tokens
  double timeout_s = 60;
  int channels = 0;  // 0: one for every 500 streams, at least 2
  std::optional<double> slo_ttft_ms;
  std::optional<double> slo_itl_ms;
  bool as_json = false;

  uint64_t seed() const { return request.sampling().has_seed() ? request.sampling().seed() : 1; }
  int open_limit() const { return rate.has_value() ? max_open : concurrency; }
  int num_channels() const;
};

// Declares the options of `krait bench serve`; parsing fills `options`, which must outlive `app`.
void AddLoadOptions(CLI::App& app, LoadOptions& options);

}  // namespace krait
