#include "coordinator/tools/generate_request.h"

#include <iostream>
#include <iterator>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

using v1::SamplingParams;

struct FloatFlag {
  FlagSpec spec;
  void (SamplingParams::*set)(float);
};
struct IntFlag {
  FlagSpec spec;
  void (SamplingParams::*set)(int32_t);
};

constexpr FloatFlag kFloatFlags[] = {
    {{"temperature", "T", "0 to 100; 0 is greedy (default 1)"}, &SamplingParams::set_temperature},
    {{"top-p", "P", "keep the likeliest tokens up to this mass"}, &SamplingParams::set_top_p},
    {{"min-p", "P", "drop tokens less likely than P times the best"}, &SamplingParams::set_min_p},
    {{"repetition-penalty", "X", "(0, 10]; 1 is off"}, &SamplingParams::set_repetition_penalty},
    {{"presence-penalty", "X", "-2 to 2"}, &SamplingParams::set_presence_penalty},
    {{"frequency-penalty", "X", "-2 to 2"}, &SamplingParams::set_frequency_penalty},
};
constexpr IntFlag kIntFlags[] = {
    {{"max-tokens", "N", "at most N new tokens (default 256)"}, &SamplingParams::set_max_tokens},
    {{"top-k", "K", "keep the K likeliest tokens; 0 is off"}, &SamplingParams::set_top_k},
    {{"logprobs", "N", "return logprobs and N alternatives, 0 to 20 (--json)"},
     &SamplingParams::set_logprobs},
};
constexpr FlagSpec kOtherFlags[] = {
    {"prompt", "TEXT", "what to continue (default: standard input)"},
    {"prompt-token-ids", "IDS", "token ids instead of text: 1,2,3"},
    {"chat", nullptr, "the prompt is a user's message: use the chat template"},
    {"system", "TEXT", "the system message; with --chat"},
    {"model", "NAME", "the model's name (default: the one that is served)"},
    {"request-id", "ID", "stands in the logs"},
    {"seed", "N", "same seed, same tokens (default: drawn)"},
    {"stop", "TEXT", "end before this text; may be repeated"},
    {"stop-token-id", "ID", "end at this token; may be repeated"},
    {"ignore-eos", nullptr, "go on past end-of-sequence tokens"},
    {"max-draft-tokens", "K", "speculate at most K tokens a round; 0: not at all"},
    {"allow-special-tokens", nullptr, "let <|im_end|> and the like in the prompt be special"},
};

absl::Status OutOfRange(const std::string& flag, int64_t value) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", value, " is out of range"));
}

absl::StatusOr<int32_t> ToInt32(const std::string& flag, int64_t value) {
  if (value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max())
    return static_cast<int32_t>(value);
  return OutOfRange(flag, value);
}

absl::Status AddIds(const Arguments& arguments, const std::string& flag, const std::string& text,
                    google::protobuf::RepeatedField<int32_t>& ids) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int32_t id = 0;
    if (!absl::SimpleAtoi(text.substr(begin, end - begin), &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, ": want token ids, got \"", text, "\""));
    }
    ids.Add(id);
    begin = end + 1;
  }
  return absl::OkStatus();
}

absl::Status SetSampling(const Arguments& arguments, SamplingParams& sampling) {
  for (const FloatFlag& flag : kFloatFlags) {
    ASSIGN_OR_RETURN(const auto value, arguments.GetDouble(flag.spec.name));
    if (value.has_value()) (sampling.*flag.set)(static_cast<float>(*value));
  }
  for (const IntFlag& flag : kIntFlags) {
    ASSIGN_OR_RETURN(const auto value, arguments.GetInt(flag.spec.name));
    if (!value.has_value()) continue;
    ASSIGN_OR_RETURN(const int32_t number, ToInt32(flag.spec.name, *value));
    (sampling.*flag.set)(number);
  }
  ASSIGN_OR_RETURN(const auto seed, arguments.GetUint("seed"));
  if (seed.has_value()) sampling.set_seed(*seed);
  for (const std::string& stop : arguments.All("stop")) sampling.add_stop(stop);
  for (const std::string& id : arguments.All("stop-token-id")) {
    RETURN_IF_ERROR(AddIds(arguments, "stop-token-id", id, *sampling.mutable_stop_token_ids()));
  }
  sampling.set_ignore_eos(arguments.Has("ignore-eos"));
  return absl::OkStatus();
}

std::string PromptText(const Arguments& arguments) {
  if (arguments.Has("prompt")) return arguments.Get("prompt");
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

void AddMessage(const char* role, const std::string& content, v1::Chat& chat) {
  v1::Message& message = *chat.add_messages();
  message.set_role(role);
  message.set_content(content);
}

absl::Status SetInput(const Arguments& arguments, v1::GenerateRequest& request) {
  if (arguments.Has("prompt-token-ids")) {
    return AddIds(arguments, "prompt-token-ids", arguments.Get("prompt-token-ids"),
                  *request.mutable_prompt_token_ids()->mutable_ids());
  }
  if (arguments.Has("system") && !arguments.Has("chat")) {
    return absl::InvalidArgumentError("--system needs --chat");
  }
  if (!arguments.Has("chat")) {
    request.set_prompt(PromptText(arguments));
    return absl::OkStatus();
  }
  v1::Chat& chat = *request.mutable_chat();
  if (arguments.Has("system")) AddMessage("system", arguments.Get("system"), chat);
  AddMessage("user", PromptText(arguments), chat);
  return absl::OkStatus();
}

}  // namespace

absl::Span<const FlagSpec> RequestFlags() {
  static const auto& flags = *[] {
    auto* all = new std::vector<FlagSpec>(std::begin(kOtherFlags), std::end(kOtherFlags));
    for (const FloatFlag& flag : kFloatFlags) all->push_back(flag.spec);
    for (const IntFlag& flag : kIntFlags) all->push_back(flag.spec);
    return all;
  }();
  return flags;
}

absl::StatusOr<v1::GenerateRequest> MakeGenerateRequest(const Arguments& arguments) {
  v1::GenerateRequest request;
  RETURN_IF_ERROR(SetInput(arguments, request));
  RETURN_IF_ERROR(SetSampling(arguments, *request.mutable_sampling()));
  request.set_model(arguments.Get("model"));
  request.set_request_id(arguments.Get("request-id"));
  request.set_allow_special_tokens(arguments.Has("allow-special-tokens"));
  ASSIGN_OR_RETURN(const auto draft_tokens, arguments.GetInt("max-draft-tokens"));
  if (draft_tokens.has_value()) {
    ASSIGN_OR_RETURN(const int32_t number, ToInt32("max-draft-tokens", *draft_tokens));
    request.set_max_draft_tokens(number);
  }
  return request;
}

}  // namespace krait
