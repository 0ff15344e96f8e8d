#include "worker/tools/generate_options.h"

#include <limits>

#include "common/subcommands.h"

namespace krait {
namespace {

constexpr int kMaxInt = std::numeric_limits<int>::max();
constexpr int kMaxLogprobs = 64;
constexpr int kMaxRunning = 1024;

void AddSamplingOptions(CLI::App& app, SamplingParams& sampling) {
  sampling.temperature = 0;
  app.add_option("--temperature", sampling.temperature, "0 is greedy (default)")
      ->check(CLI::Range(0.0f, 100.0f));
  app.add_option("--top-k", sampling.top_k, "0 is off")->check(CLI::Range(0, kMaxInt));
  app.add_option("--top-p", sampling.top_p, "1 is off")->check(CLI::Range(0.0f, 1.0f));
  app.add_option("--min-p", sampling.min_p, "0 is off")->check(CLI::Range(0.0f, 1.0f));
  app.add_option("--repetition-penalty", sampling.repetition_penalty, "1 is off")
      ->check(CLI::Range(0.0f, 10.0f));
  app.add_option("--presence-penalty", sampling.presence_penalty, "0 is off")
      ->check(CLI::Range(-2.0f, 2.0f));
  app.add_option("--frequency-penalty", sampling.frequency_penalty, "0 is off")
      ->check(CLI::Range(-2.0f, 2.0f));
  app.add_option("--seed", sampling.seed, "default 0")->check(CheckNotNegative, "");
  app.add_option("--logprobs", sampling.num_logprobs, "of the drawn token and so many others")
      ->check(CLI::Range(0, kMaxLogprobs));
}

}  // namespace

void AddGenerateOptions(CLI::App& app, GenerateOptions& options) {
  CLI::App& prompts = *app.add_option_group("prompts");
  prompts.add_option("--prompt-ids", options.prompt_ids, "token ids: 1,2,3")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("IDS");
  prompts
      .add_option("--prompt-ids-file", options.prompt_ids_file,
                  "JSON: a list of ids, or a list of such lists, all run")
      ->type_name("FILE");
  prompts.require_option(1);
  app.add_option("--max-tokens", options.max_tokens, "default 64")->check(CLI::Range(1, kMaxInt));
  app.add_option("--max-running", options.max_running, "prompts at a time, default 8")
      ->check(CLI::Range(1, kMaxRunning));
  app.add_flag("--ignore-eos", options.ignore_eos, "go on after end-of-sequence tokens");
  app.add_flag("--json", options.as_json, "one JSON document");
  AddSamplingOptions(app, options.sampling);
  AddEngineOptions(app, options.flags);
}

}  // namespace krait
