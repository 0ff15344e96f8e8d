#include "worker/tools/generate.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/build_info.h"
#include "common/field_error.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/tools/collecting_sink.h"
#include "worker/tools/engine_flags.h"
#include "worker/tools/null_observer.h"

namespace krait {
namespace {

constexpr char kUsage[] =
    "usage: krait-engine generate --model PATH (--prompt-ids 1,2,3 | --prompt-ids-file FILE) ...\n"
    "  --prompt-ids-file FILE       JSON: a list of ids, or a list of such lists, all run\n"
    "  --max-tokens N               default 64\n"
    "  --ignore-eos                 go on after end-of-sequence tokens\n"
    "  --temperature --top-k --top-p --min-p --repetition-penalty --presence-penalty\n"
    "  --frequency-penalty --seed   default: greedy, no filters, no penalties, seed 0\n"
    "  --logprobs N                 of the drawn token and N alternatives\n"
    "  --max-running N              prompts at a time, default 8\n"
    "  --json                       one JSON document\n";

using Prompts = std::vector<std::vector<TokenId>>;

absl::StatusOr<std::vector<TokenId>> IdsOf(const JsonValue& value) {
  std::vector<TokenId> ids;
  for (const JsonValue& id : value.as_array()) {
    if (!id.is_integer()) return FieldError("--prompt-ids-file", "holds something else than ids");
    ids.push_back(static_cast<TokenId>(std::clamp<int64_t>(id.as_int(), -1, INT32_MAX)));
  }
  return ids;
}

absl::StatusOr<Prompts> ReadPromptFile(const std::string& path) {
  ASSIGN_OR_RETURN(const JsonValue document, ReadJsonFile(path));
  if (!document.is_array() || document.as_array().empty()) {
    return FieldError("--prompt-ids-file", "must be a list of ids or of lists of ids");
  }
  Prompts prompts;
  if (!document.as_array()[0].is_array()) {
    ASSIGN_OR_RETURN(prompts.emplace_back(), IdsOf(document));
    return prompts;
  }
  for (const JsonValue& list : document.as_array()) {
    if (!list.is_array()) return FieldError("--prompt-ids-file", "mixes ids and lists of ids");
    ASSIGN_OR_RETURN(prompts.emplace_back(), IdsOf(list));
  }
  return prompts;
}

absl::StatusOr<Prompts> ReadPrompts(const CommandLine& line) {
  if (line.Has("prompt-ids") == line.Has("prompt-ids-file")) {
    return FieldError("--prompt-ids", "give either this or --prompt-ids-file");
  }
  if (line.Has("prompt-ids-file")) return ReadPromptFile(line.values.at("prompt-ids-file"));
  Prompts prompts(1);
  for (const auto part : absl::StrSplit(line.values.at("prompt-ids"), ',')) {
    TokenId id = 0;
    if (!absl::SimpleAtoi(part, &id)) return FieldError("--prompt-ids", "must be like 1,2,3");
    prompts[0].push_back(id);
  }
  return prompts;
}

absl::StatusOr<SamplingParams> ReadSampling(const CommandLine& line) {
  SamplingParams sampling;
  const std::pair<const char*, float*> numbers[] = {
      {"temperature", &sampling.temperature},
      {"top-p", &sampling.top_p},
      {"min-p", &sampling.min_p},
      {"repetition-penalty", &sampling.repetition_penalty},
      {"presence-penalty", &sampling.presence_penalty},
      {"frequency-penalty", &sampling.frequency_penalty}};
  sampling.temperature = 0;
  for (const auto& [name, value] : numbers) {
    ASSIGN_OR_RETURN(const double given, DoubleOption(line, name, *value));
    *value = static_cast<float>(given);
  }
  ASSIGN_OR_RETURN(const int64_t top_k, IntOption(line, "top-k", 0, 0, INT32_MAX));
  ASSIGN_OR_RETURN(const int64_t seed, IntOption(line, "seed", 0, 0, INT64_MAX));
  ASSIGN_OR_RETURN(const int64_t logprobs, IntOption(line, "logprobs", -1, 0, 64));
  sampling.top_k = static_cast<int32_t>(top_k);
  sampling.seed = static_cast<uint64_t>(seed);
  sampling.num_logprobs = static_cast<int32_t>(logprobs);
  return sampling;
}

struct Generation {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
};

const char* NameOf(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : reason == FinishReason::kLength ? "length" : "";
}

std::string LogprobJson(const PositionLogprobs& position) {
  const auto pair = [](const TokenLogprob& token) {
    return absl::StrFormat("[%d,%.9g]", token.id, token.logprob);
  };
  return absl::StrCat("{\"token\":", pair(position.token), ",\"top\":[",
                      absl::StrJoin(position.top, ",",
                                    [&](std::string* out, const TokenLogprob& token) {
                                      absl::StrAppend(out, pair(token));
                                    }),
                      "]}");
}

std::string ToJson(const CollectingSink& sink, size_t prompt_tokens) {
  std::string json =
      absl::StrCat("{\"token_ids\":[", absl::StrJoin(sink.token_ids, ","), "],\"finish_reason\":\"",
                   NameOf(sink.finish_reason), "\",\"prompt_tokens\":", prompt_tokens);
  if (!sink.logprobs.empty()) {
    absl::StrAppend(&json, ",\"logprobs\":[",
                    absl::StrJoin(sink.logprobs, ",",
                                  [](std::string* out, const PositionLogprobs& position) {
                                    absl::StrAppend(out, LogprobJson(position));
                                  }),
                    "]");
  }
  absl::StrAppend(&json, ",\"speculation\":{\"proposed\":", sink.speculation.proposed,
                  ",\"accepted\":", sink.speculation.accepted,
                  ",\"rounds\":", sink.speculation.rounds, "}}");
  return json;
}

void Print(const Generation& generation, bool json) {
  if (json) std::printf("{\"generations\":[");
  for (size_t i = 0; i < generation.sinks.size(); ++i) {
    const CollectingSink& sink = *generation.sinks[i];
    if (json) {
      std::printf("%s%s", i ? "," : "", ToJson(sink, generation.prompts[i].size()).c_str());
      continue;
    }
    std::printf("%s  [%s]\n", absl::StrJoin(sink.token_ids, " ").c_str(),
                NameOf(sink.finish_reason));
    for (const PositionLogprobs& position : sink.logprobs) {
      std::printf("  %s\n", LogprobJson(position).c_str());
    }
  }
  if (json) std::printf("]}\n");
}

absl::StatusOr<Generation> Generate(const CommandLine& line) {
  Generation generation;
  ASSIGN_OR_RETURN(generation.prompts, ReadPrompts(line));
  ASSIGN_OR_RETURN(EngineFlags flags, ReadEngineFlags(line));
  ASSIGN_OR_RETURN(const SamplingParams sampling, ReadSampling(line));
  ASSIGN_OR_RETURN(const int64_t max_tokens, IntOption(line, "max-tokens", 64, 1, INT32_MAX));
  ASSIGN_OR_RETURN(const int64_t max_running, IntOption(line, "max-running", 8, 1, 1024));
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(flags.config.group.model_path));

  size_t longest = 0;
  for (const auto& prompt : generation.prompts) longest = std::max(longest, prompt.size());
  const int64_t pages = (static_cast<int64_t>(longest) + max_tokens + 15) / 16;
  flags.config.max_running = static_cast<int>(
      std::min<int64_t>({max_running, static_cast<int64_t>(generation.prompts.size()),
                         flags.config.max_num_batched_tokens}));
  flags.config.max_waiting = static_cast<int>(generation.prompts.size());
  flags.config.group.runner.num_pages = static_cast<int>(pages * flags.config.max_running);

  const RealClock clock;
  NullObserver observer;
  ASSIGN_OR_RETURN(std::unique_ptr<Proposer> proposer, MakeProposerOf(flags, &clock));
  ASSIGN_OR_RETURN(const auto engine,
                   Engine::Create(flags.config, std::move(proposer), &clock, &observer, nullptr));
  for (size_t i = 0; i < generation.prompts.size(); ++i) {
    generation.sinks.push_back(std::make_shared<CollectingSink>());
    GenerationRequest request{.request_id = absl::StrCat(i), .prompt = generation.prompts[i]};
    request.sampling = sampling;
    request.stop.max_tokens = static_cast<int32_t>(max_tokens);
    if (!line.Switched("ignore-eos")) request.stop.eos_ids = vocabulary.eos_ids;
    RETURN_IF_ERROR(engine->Submit(std::move(request), generation.sinks.back()));
  }
  for (const auto& sink : generation.sinks) {
    sink->ended.WaitForNotification();
    RETURN_IF_ERROR(sink->status);
  }
  return generation;
}

}  // namespace

int RunGenerate(int argc, char** argv) {
  std::vector<std::string> options = {"prompt-ids",
                                      "prompt-ids-file",
                                      "max-tokens",
                                      "temperature",
                                      "top-k",
                                      "top-p",
                                      "min-p",
                                      "repetition-penalty",
                                      "presence-penalty",
                                      "frequency-penalty",
                                      "seed",
                                      "logprobs",
                                      "max-running"};
  options.insert(options.end(), kEngineOptions.begin(), kEngineOptions.end());
  const auto line = ParseCommandLine(argc, argv, options, {"json", "ignore-eos", "help"});
  if (!line.ok()) {
    std::fprintf(stderr, "%s\n%s%s", std::string(line.status().message()).c_str(), kUsage,
                 kEngineUsage);
    return kExitUsage;
  }
  if (line->Switched("help")) {
    std::printf("%s%s", kUsage, kEngineUsage);
    return 0;
  }
  const absl::StatusOr<Generation> generation = Generate(*line);
  if (!generation.ok()) {
    std::fprintf(stderr, "%s\n", std::string(generation.status().message()).c_str());
    return ErrorField(generation.status()).empty() ? ExitCodeFor(generation.status()) : kExitUsage;
  }
  Print(*generation, line->Switched("json"));
  return 0;
}

}  // namespace krait
