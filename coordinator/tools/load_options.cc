#include "coordinator/tools/load_options.h"

#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/generate_request.h"

namespace krait {
namespace {

constexpr int kMaxTokens = 1'000'000;
constexpr int kMaxOpen = 60'000;  // streams; a client has no more ports and files to spare
constexpr int kMaxChannels = 256;
constexpr int kStreamsPerChannel = 500;
constexpr double kMaxSeconds = 1e6;

// "N" or "LOW:HIGH"; empty if it is something else.
std::optional<TokenRange> ParseRange(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  TokenRange range{0, 0};
  if (parts.size() > 2 || !absl::SimpleAtoi(parts.front(), &range.low) ||
      !absl::SimpleAtoi(parts.back(), &range.high) || range.low < 1 || range.high < range.low ||
      range.high > kMaxTokens) {
    return std::nullopt;
  }
  return range;
}

void AddRange(CLI::App& app, const char* name, const char* help, TokenRange& range) {
  const auto set = [&range](const std::string& text) { range = *ParseRange(text); };
  app.add_option_function<std::string>(name, set, help)
      ->type_name("N|LOW:HIGH")
      ->check(
          [](const std::string& text) {
            if (ParseRange(text).has_value()) return std::string();
            return absl::StrCat("want N or LOW:HIGH in [1 - ", kMaxTokens, "], got ", text);
          },
          "");
}

void AddArrivalOptions(CLI::App& app, LoadOptions& options) {
  CLI::Option* rate = app.add_option("--rate", options.rate,
                                     "open loop: so many requests a second, Poisson arrivals")
                          ->check(CLI::Range(0.001, 1e6));
  app.add_option("--concurrency", options.concurrency, "closed loop: so many streams at a time")
      ->check(CLI::Range(1, kMaxOpen))
      ->capture_default_str()
      ->excludes(rate);
  app.add_option("--max-open", options.max_open,
                 "open loop: arrivals beyond so many streams wait (which counts as latency)")
      ->check(CLI::Range(1, kMaxOpen))
      ->capture_default_str();
  app.add_option("--requests", options.requests,
                 "stop after so many (default: 100, unless there is --duration)")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000'000}));
  app.add_option("--duration", options.duration_s, "no new request after so many seconds")
      ->check(CLI::Range(0.001, kMaxSeconds));
  app.add_option("--warmup", options.warmup_s, "seconds at the start that are not measured")
      ->check(CLI::Range(0.0, kMaxSeconds))
      ->capture_default_str();
}

void AddRequestShape(CLI::App& app, LoadOptions& options) {
  AddSamplingOptions(app, options.request);
  for (const char* replaced : {"--max-tokens", "--ignore-eos"}) {
    app.remove_option(app.get_option(replaced));
  }
  app.get_option("--seed")->description("of arrivals, lengths, cancels and sampling (default 1)");
  AddRange(app, "--prompt-tokens", "words a prompt, about one token each (default 32)",
           options.prompt_tokens);
  AddRange(app, "--output-tokens", "tokens an answer (default 64)", options.output_tokens);
  app.add_option("--prompts", options.prompts_file, "prompts from a file, one a line, in a circle")
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  app.add_flag("--chat", options.chat, "prompts are users' messages: use the chat template");
  app.add_flag("--until-eos", options.until_eos,
               "answers may end before --output-tokens, at an end-of-sequence token");
  app.add_option("--cancel-rate", options.cancel_rate,
                 "cancel this share of streams, each after a random number of tokens")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

}  // namespace

int LoadOptions::num_channels() const {
  if (channels > 0) return channels;
  return std::clamp((open_limit() + kStreamsPerChannel - 1) / kStreamsPerChannel, 2, kMaxChannels);
}

void AddLoadOptions(CLI::App& app, LoadOptions& options) {
  AddCoordinatorOption(app, options.coordinator);
  AddArrivalOptions(app, options);
  AddRequestShape(app, options);
  app.add_option("--timeout", options.timeout_s, "each request's deadline, seconds")
      ->check(CLI::Range(0.001, kMaxSeconds))
      ->capture_default_str();
  app.add_option("--channels", options.channels,
                 "connections (default: one for every 500 streams, at least 2)")
      ->check(CLI::Range(1, kMaxChannels));
  app.add_option("--slo-ttft-ms", options.slo_ttft_ms,
                 "goodput: the first token comes within this time")
      ->check(CLI::Range(0.001, 1e9));
  app.add_option("--slo-itl-ms", options.slo_itl_ms,
                 "goodput: the mean time between a request's tokens is at most this")
      ->check(CLI::Range(0.001, 1e9));
  app.add_flag("--json", options.as_json, "one JSON document");
}

}  // namespace krait
