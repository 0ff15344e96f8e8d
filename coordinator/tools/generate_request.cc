#include "coordinator/tools/generate_request.h"

#include <iostream>
#include <iterator>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/request_limits.h"
#include "common/subcommands.h"

namespace krait {
namespace {

using v1::SamplingParams;

constexpr int kMaxInt = std::numeric_limits<int32_t>::max();

struct FloatOption {
  const char* name;
  const char* help;
  float low, high;
  void (SamplingParams::*set)(float);
};
struct IntOption {
  const char* name;
  const char* help;
  int low, high;
  void (SamplingParams::*set)(int32_t);
};

constexpr FloatOption kFloatOptions[] = {
    {"--temperature", "0 is greedy (default 1)", 0, 100, &SamplingParams::set_temperature},
    {"--top-p", "keep the likeliest tokens up to this mass", 0, 1, &SamplingParams::set_top_p},
    {"--min-p", "drop tokens less likely than this times the best", 0, 1,
     &SamplingParams::set_min_p},
    {"--repetition-penalty", "1 is off", 0, 10, &SamplingParams::set_repetition_penalty},
    {"--presence-penalty", "of tokens in the output", -2, 2, &SamplingParams::set_presence_penalty},
    {"--frequency-penalty", "the same, times their count", -2, 2,
     &SamplingParams::set_frequency_penalty},
};
constexpr IntOption kIntOptions[] = {
    {"--max-tokens", "at most so many new tokens (default 256)", 1, kMaxInt,
     &SamplingParams::set_max_tokens},
    {"--min-tokens", "no end before so many new tokens", 0, kMaxInt,
     &SamplingParams::set_min_tokens},
    {"--top-k", "keep the likeliest so many; 0 is off", 0, kMaxInt, &SamplingParams::set_top_k},
    {"--logprobs", "return logprobs and so many alternatives (--json)", 0, kMaxTopLogprobs,
     &SamplingParams::set_logprobs},
};

// "ID:BIAS". False if it is something else.
bool AddBias(const std::string& text, SamplingParams& sampling) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  int32_t id = 0;
  float bias = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &id) || !absl::SimpleAtof(parts[1], &bias)) {
    return false;
  }
  (*sampling.mutable_logit_bias())[id] = bias;
  return true;
}

void AddRepeatedOptions(CLI::App& app, SamplingParams& sampling) {
  app.add_option_function<std::vector<std::string>>(
         "--stop",
         [&sampling](const std::vector<std::string>& stops) {
           for (const std::string& stop : stops) sampling.add_stop(stop);
         },
         "end before this text; may be repeated")
      ->allow_extra_args(false)
      ->take_all()
      ->type_name("TEXT");
  app.add_option_function<std::vector<int32_t>>(
         "--stop-token-id",
         [&sampling](const std::vector<int32_t>& ids) {
           sampling.mutable_stop_token_ids()->Add(ids.begin(), ids.end());
         },
         "end at this token; may be repeated: 1,2")
      ->allow_extra_args(false)
      ->take_all()
      ->delimiter(',')
      ->type_name("ID");
  app.add_option(
         "--logit-bias",
         [&sampling](const std::vector<std::string>& biases) {
           return std::all_of(biases.begin(), biases.end(),
                              [&](const std::string& text) { return AddBias(text, sampling); });
         },
         "add to a token's logit: 7:-1.5,8:2; may be repeated")
      ->allow_extra_args(false)
      ->take_all()
      ->delimiter(',')
      ->type_name("ID:BIAS");
}

std::string PromptText(const RequestOptions& options) {
  if (options.prompt.has_value()) return *options.prompt;
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

}  // namespace

void AddSamplingOptions(CLI::App& app, v1::GenerateRequest& request) {
  SamplingParams& sampling = *request.mutable_sampling();
  for (const FloatOption& option : kFloatOptions) {
    const auto set = [&sampling, &option](const float& value) { (sampling.*option.set)(value); };
    app.add_option_function<float>(option.name, set, option.help)
        ->check(CLI::Range(option.low, option.high));
  }
  for (const IntOption& option : kIntOptions) {
    const auto set = [&sampling, &option](const int32_t& value) { (sampling.*option.set)(value); };
    app.add_option_function<int32_t>(option.name, set, option.help)
        ->check(CLI::Range(option.low, option.high));
  }
  app.add_option_function<uint64_t>(
         "--seed", [&sampling](const uint64_t& seed) { sampling.set_seed(seed); },
         "same seed, same tokens (default: drawn)")
      ->check(CheckNotNegative, "");
  AddRepeatedOptions(app, sampling);
  app.add_flag_callback(
      "--ignore-eos", [&sampling] { sampling.set_ignore_eos(true); },
      "go on past end-of-sequence tokens");
  app.add_option_function<int32_t>(
         "--max-draft-tokens",
         [&request](const int32_t& tokens) { request.set_max_draft_tokens(tokens); },
         "speculate at most so many tokens a round; 0: not at all")
      ->check(CLI::Range(0, kMaxRequestDraftTokens));
  app.add_option_function<std::string>(
         "--model", [&request](const std::string& model) { request.set_model(model); },
         "the model's name (default: the one that is served)")
      ->type_name("NAME");
}

void AddRequestOptions(CLI::App& app, RequestOptions& options) {
  v1::GenerateRequest& request = options.request;
  CLI::Option* prompt =
      app.add_option("--prompt", options.prompt, "what to continue (default: standard input)")
          ->type_name("TEXT");
  CLI::Option* chat =
      app.add_flag("--chat", options.chat, "the prompt is a user's message: use the chat template");
  app.add_option("--system", options.system, "the system message")->type_name("TEXT")->needs(chat);
  app.add_option("--prompt-token-ids", options.prompt_token_ids, "token ids, not text: 1,2,3")
      ->allow_extra_args(false)
      ->delimiter(',')
      ->type_name("IDS")
      ->excludes(prompt)
      ->excludes(chat);
  app.add_option_function<std::string>(
         "--request-id", [&request](const std::string& id) { request.set_request_id(id); },
         "stands in the logs")
      ->type_name("ID");
  app.add_flag_callback(
      "--allow-special-tokens", [&request] { request.set_allow_special_tokens(true); },
      "let <|im_end|> and the like in the prompt be special");
  app.add_option_function<int32_t>(
         "--n", [&request](const int32_t& n) { request.mutable_sampling()->set_n(n); },
         "so many choices, each printed when all have ended (default 1)")
      ->check(CLI::Range(1, kMaxChoices));
  AddSamplingOptions(app, request);
}

v1::GenerateRequest MakeGenerateRequest(const RequestOptions& options) {
  v1::GenerateRequest request = options.request;
  if (!options.prompt_token_ids.empty()) {
    request.mutable_prompt_token_ids()->mutable_ids()->Add(options.prompt_token_ids.begin(),
                                                           options.prompt_token_ids.end());
  } else if (!options.chat) {
    request.set_prompt(PromptText(options));
  } else {
    v1::Chat& chat = *request.mutable_chat();
    if (options.system.has_value()) AddMessage("system", *options.system, chat);
    AddMessage("user", PromptText(options), chat);
  }
  return request;
}

void AddMessage(const char* role, const std::string& content, v1::Chat& chat) {
  v1::Message& message = *chat.add_messages();
  message.set_role(role);
  message.set_content(content);
}

}  // namespace krait
