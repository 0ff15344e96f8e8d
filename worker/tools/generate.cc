// krait-engine generate: tokens from token ids, without RPC.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/build_info.h"
#include "common/field_error.h"
#include "common/json_document.h"
#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/tools/collecting_sink.h"
#include "worker/tools/engine_tool.h"
#include "worker/tools/generate_options.h"
#include "worker/tools/null_observer.h"
#include "worker/tools/prompt_ids_file.h"

namespace krait {
namespace {

using nlohmann::ordered_json;

constexpr int kPageSize = 16;

struct Generation {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
};

const char* NameOf(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : reason == FinishReason::kLength ? "length" : "";
}

ordered_json LogprobJson(const PositionLogprobs& position) {
  const auto pair = [](const TokenLogprob& token) {
    return ordered_json::array({token.id, token.logprob});
  };
  ordered_json top = ordered_json::array();
  for (const TokenLogprob& token : position.top) top.push_back(pair(token));
  return {{"token", pair(position.token)}, {"top", std::move(top)}};
}

ordered_json ToJson(const CollectingSink& sink, size_t prompt_tokens) {
  ordered_json json = {{"token_ids", sink.token_ids},
                       {"finish_reason", NameOf(sink.finish_reason)},
                       {"prompt_tokens", prompt_tokens}};
  for (const PositionLogprobs& position : sink.logprobs) {
    json["logprobs"].push_back(LogprobJson(position));
  }
  json["speculation"] = {{"proposed", sink.speculation.proposed},
                         {"accepted", sink.speculation.accepted},
                         {"rounds", sink.speculation.rounds}};
  return json;
}

void PrintJson(const Generation& generation) {
  ordered_json all = ordered_json::array();
  for (size_t i = 0; i < generation.sinks.size(); ++i) {
    all.push_back(ToJson(*generation.sinks[i], generation.prompts[i].size()));
  }
  std::printf("%s\n", DumpJson({{"generations", std::move(all)}}).c_str());
}

void PrintText(const Generation& generation) {
  for (const auto& sink : generation.sinks) {
    std::printf("%s  [%s]\n", absl::StrJoin(sink->token_ids, " ").c_str(),
                NameOf(sink->finish_reason));
    for (const PositionLogprobs& position : sink->logprobs) {
      std::printf("  %s\n", DumpJson(LogprobJson(position)).c_str());
    }
  }
}

// Room for as many of the prompts as run at a time, to their ends.
void SizeEngine(const GenerateOptions& options, const Generation& generation,
                EngineConfig& config) {
  const auto num_prompts = static_cast<int64_t>(generation.prompts.size());
  size_t longest = 0;
  for (const auto& prompt : generation.prompts) longest = std::max(longest, prompt.size());
  const int64_t tokens = static_cast<int64_t>(longest) + options.max_tokens;
  const int64_t pages = (tokens + kPageSize - 1) / kPageSize;
  config.max_running = static_cast<int>(
      std::min<int64_t>({options.max_running, num_prompts, config.max_num_batched_tokens}));
  config.max_waiting = static_cast<int>(num_prompts);
  config.group.runner.num_pages = static_cast<int>(pages * config.max_running);
}

absl::Status SubmitAll(const GenerateOptions& options, const std::vector<TokenId>& eos_ids,
                       Engine& engine, Generation& generation) {
  for (size_t i = 0; i < generation.prompts.size(); ++i) {
    generation.sinks.push_back(std::make_shared<CollectingSink>());
    GenerationRequest request{.request_id = absl::StrCat(i), .prompt = generation.prompts[i]};
    request.sampling = options.sampling;
    request.stop.max_tokens = options.max_tokens;
    if (!options.ignore_eos) request.stop.eos_ids = eos_ids;
    RETURN_IF_ERROR(engine.Submit(std::move(request), generation.sinks.back()));
  }
  return absl::OkStatus();
}

absl::StatusOr<Generation> Generate(const GenerateOptions& options) {
  Generation generation;
  if (options.prompt_ids_file.empty()) {
    generation.prompts = {options.prompt_ids};
  } else {
    ASSIGN_OR_RETURN(generation.prompts, ReadPromptIdsFile(options.prompt_ids_file));
  }
  EngineFlags flags = options.flags;
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(flags.config.group.model_path));
  SizeEngine(options, generation, flags.config);
  const RealClock clock;
  NullObserver observer;
  ASSIGN_OR_RETURN(std::unique_ptr<Proposer> proposer, MakeProposerOf(flags, &clock));
  ASSIGN_OR_RETURN(const auto engine,
                   Engine::Create(flags.config, std::move(proposer), &clock, &observer, nullptr));
  RETURN_IF_ERROR(SubmitAll(options, vocabulary.eos_ids, *engine, generation));
  for (const auto& sink : generation.sinks) {
    sink->ended.WaitForNotification();
    RETURN_IF_ERROR(sink->status);
  }
  return generation;
}

int Run(const GenerateOptions& options) {
  const absl::StatusOr<Generation> generation = Generate(options);
  if (!generation.ok()) {
    const int code = EndCommand(generation.status());
    return ErrorField(generation.status()).empty() ? code : kExitUsage;
  }
  options.as_json ? PrintJson(*generation) : PrintText(*generation);
  return 0;
}

}  // namespace

std::function<int()> DeclareGenerate(CLI::App& app) {
  const auto options = std::make_shared<GenerateOptions>();
  AddGenerateOptions(app, *options);
  return [options] { return Run(*options); };
}

}  // namespace krait
