#include <chrono>
#include <csignal>
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

#include "common/build_info.h"
#include "common/grpc_status.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/command.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {
namespace {

struct GenerateOptions {
  std::string coordinator = kDefaultCoordinator;
  std::string model, request_id, prompt, system, prompt_ids_file;
  std::vector<int> prompt_ids;
  bool chat = false, json = false, ignore_eos = false, allow_special_tokens = false;
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int> top_k, max_tokens, logprobs, max_draft_tokens;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<int> stop_token_ids;
  double timeout_s = 300;
};

struct Measured {
  std::vector<int> token_ids;
  std::string text;
  Json logprobs = Json::array();
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  std::string matched_stop;
  v1::Usage usage;
  double time_to_first_token_s = 0;
  double total_s = 0;
};

absl::Status ReadPromptIds(const std::string& path, v1::TokenIds& ids) {
  ASSIGN_OR_RETURN(const JsonValue document, ReadJsonFile(path));
  if (!document.is_array()) return absl::InvalidArgumentError(path + ": expected a list of ids");
  for (const JsonValue& id : document.as_array()) {
    if (!id.is_integer()) return absl::InvalidArgumentError(path + ": expected a list of integers");
    ids.add_ids(static_cast<int>(id.as_int()));
  }
  return absl::OkStatus();
}

void SetSampling(const GenerateOptions& options, v1::SamplingParams& sampling) {
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.min_p) sampling.set_min_p(*options.min_p);
  if (options.repetition_penalty) sampling.set_repetition_penalty(*options.repetition_penalty);
  if (options.presence_penalty) sampling.set_presence_penalty(*options.presence_penalty);
  if (options.frequency_penalty) sampling.set_frequency_penalty(*options.frequency_penalty);
  if (options.seed) sampling.set_seed(*options.seed);
  if (options.max_tokens) sampling.set_max_tokens(*options.max_tokens);
  if (options.logprobs) sampling.set_logprobs(*options.logprobs);
  sampling.set_ignore_eos(options.ignore_eos);
  for (const std::string& stop : options.stop) sampling.add_stop(stop);
  for (int id : options.stop_token_ids) sampling.add_stop_token_ids(id);
}

void AddMessage(v1::Chat& chat, const std::string& role, const std::string& content) {
  v1::Message& message = *chat.add_messages();
  message.set_role(role);
  message.set_content(content);
}

absl::StatusOr<v1::GenerateRequest> MakeRequest(const GenerateOptions& options) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  request.set_request_id(options.request_id);
  request.set_allow_special_tokens(options.allow_special_tokens);
  if (options.max_draft_tokens) request.set_max_draft_tokens(*options.max_draft_tokens);
  SetSampling(options, *request.mutable_sampling());
  if (!options.prompt_ids_file.empty()) {
    RETURN_IF_ERROR(ReadPromptIds(options.prompt_ids_file, *request.mutable_prompt_token_ids()));
  } else if (!options.prompt_ids.empty()) {
    for (int id : options.prompt_ids) request.mutable_prompt_token_ids()->add_ids(id);
  } else if (options.chat) {
    if (!options.system.empty()) AddMessage(*request.mutable_chat(), "system", options.system);
    AddMessage(*request.mutable_chat(), "user", options.prompt);
  } else {
    request.set_prompt(options.prompt);
  }
  return request;
}

Json LogprobsJson(const v1::PositionLogprobs& position) {
  Json top = Json::array();
  for (const v1::TokenLogprob& candidate : position.top()) {
    top.push_back({{"token_id", candidate.token_id()}, {"logprob", candidate.logprob()}});
  }
  return {{"token_id", position.token().token_id()},
          {"logprob", position.token().logprob()},
          {"top", top}};
}

void Collect(const v1::GenerateResponse& chunk, Measured& measured) {
  measured.token_ids.insert(measured.token_ids.end(), chunk.token_ids().begin(),
                            chunk.token_ids().end());
  measured.text += chunk.text();
  for (const auto& position : chunk.logprobs()) measured.logprobs.push_back(LogprobsJson(position));
  if (chunk.finish_reason() == v1::FINISH_REASON_UNSPECIFIED) return;
  measured.finish_reason = chunk.finish_reason();
  measured.matched_stop = chunk.matched_stop();
  measured.usage = chunk.usage();
}

// Streams the answer, printing text as it comes unless it goes into a document at the end.
absl::StatusOr<Measured> Stream(const GenerateOptions& options,
                                const std::shared_ptr<grpc::Channel>& channel,
                                const v1::GenerateRequest& request) {
  using Seconds = std::chrono::duration<double>;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(static_cast<int64_t>(options.timeout_s * 1000)));
  const auto start = std::chrono::steady_clock::now();
  auto stub = v1::GenerationService::NewStub(channel);
  auto reader = stub->Generate(&context, request);
  Measured measured;
  v1::GenerateResponse chunk;
  while (reader->Read(&chunk)) {
    const double now = Seconds(std::chrono::steady_clock::now() - start).count();
    if (measured.token_ids.empty()) measured.time_to_first_token_s = now;
    measured.total_s = now;
    Collect(chunk, measured);
    if (!options.json) std::cout << chunk.text() << std::flush;
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return FromGrpcStatus(status);
  return measured;
}

const char* FinishName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    default:
      return "";
  }
}

// Of the tokens after the first: what a reader of the stream sees.
double TokensPerSecond(const Measured& measured) {
  const double seconds = measured.total_s - measured.time_to_first_token_s;
  const double tokens = static_cast<double>(measured.token_ids.size()) - 1;
  return seconds > 0 && tokens > 0 ? tokens / seconds : 0;
}

Json SpeculationJson(const v1::SpeculationUsage& speculation) {
  return {{"proposed", speculation.proposed()},
          {"accepted", speculation.accepted()},
          {"rounds", speculation.rounds()}};
}

Json DocumentJson(const GenerateOptions& options, const Measured& measured,
                  const v1::ListWorkersResponse& workers) {
  Json document = {{"text", measured.text},
                   {"token_ids", measured.token_ids},
                   {"finish_reason", FinishName(measured.finish_reason)},
                   {"usage",
                    {{"prompt_tokens", measured.usage.prompt_tokens()},
                     {"completion_tokens", measured.usage.completion_tokens()}}},
                   {"time_to_first_token_s", measured.time_to_first_token_s},
                   {"tokens_per_second", TokensPerSecond(measured)},
                   {"speculation", SpeculationJson(measured.usage.speculation())},
                   {"topology", TopologyJson(workers, options.coordinator)}};
  if (options.logprobs) document["logprobs"] = measured.logprobs;
  if (!measured.matched_stop.empty()) document["matched_stop"] = measured.matched_stop;
  return document;
}

void PrintSummary(const Measured& measured) {
  const v1::SpeculationUsage& speculation = measured.usage.speculation();
  std::cout << "\n";
  std::cerr << measured.token_ids.size()
            << " tokens, finish: " << FinishName(measured.finish_reason) << "; first after "
            << measured.time_to_first_token_s << " s, then " << TokensPerSecond(measured)
            << " tokens/s; speculation: " << speculation.accepted() << " of "
            << speculation.proposed() << " drafts accepted in " << speculation.rounds()
            << " rounds\n";
}

int RunGenerate(const GenerateOptions& options) {
  const auto request = MakeRequest(options);
  if (!request.ok()) return Fail("generate", request.status());
  const auto channel = ConnectTo(options.coordinator);
  const auto workers = ListWorkers(channel, absl::Seconds(3));
  if (!workers.ok()) return Fail(options.coordinator, workers.status());
  const auto measured = Stream(options, channel, *request);
  if (!measured.ok()) {
    if (!options.json) std::cout << std::endl;
    return Fail("generate", measured.status());
  }
  if (options.json) {
    std::cout << DumpJson(DocumentJson(options, *measured, *workers)) << "\n";
  } else {
    PrintSummary(*measured);
  }
  return 0;
}

void AddInputOptions(CLI::App& command, GenerateOptions& options) {
  CLI::Option* prompt = command.add_option("--prompt", options.prompt, "text to continue");
  CLI::Option* ids =
      command.add_option("--prompt-ids", options.prompt_ids, "token ids, a,b,c")->delimiter(',');
  CLI::Option* file =
      command.add_option("--prompt-ids-file", options.prompt_ids_file, "a JSON list of token ids");
  prompt->excludes(ids)->excludes(file);
  ids->excludes(file);
  CLI::Option* chat = command.add_flag("--chat", options.chat,
                                       "send the prompt as a user's message, through the template");
  chat->needs(prompt);
  command.add_option("--system", options.system, "system message")->needs(chat);
  command.add_flag("--allow-special-tokens", options.allow_special_tokens,
                   "text such as <|im_end|> in the prompt becomes that token");
}

void AddSamplingOptions(CLI::App& command, GenerateOptions& options) {
  command.add_option("--temperature", options.temperature, "0: greedy (default 1)");
  command.add_option("--top-k", options.top_k, "0: off (default)");
  command.add_option("--top-p", options.top_p, "1: off (default)");
  command.add_option("--min-p", options.min_p, "0: off (default)");
  command.add_option("--repetition-penalty", options.repetition_penalty, "1: off (default)");
  command.add_option("--presence-penalty", options.presence_penalty, "0: off (default)");
  command.add_option("--frequency-penalty", options.frequency_penalty, "0: off (default)");
  command.add_option("--seed", options.seed, "same seed, same tokens; default: drawn");
  command.add_option("--max-tokens", options.max_tokens, "new tokens at most");
  command.add_option("--stop", options.stop, "end before this text; may be repeated");
  command.add_option("--stop-token-ids", options.stop_token_ids, "a,b,c")->delimiter(',');
  command.add_flag("--ignore-eos", options.ignore_eos, "go on past end-of-sequence tokens");
  command.add_option("--logprobs", options.logprobs, "alternatives to list for each token");
}

}  // namespace

void AddGenerateCommand(CLI::App& app, CommandRun& run) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Stream one answer");
  command->add_option("--coordinator", options->coordinator, "host:port of the coordinator")
      ->capture_default_str();
  command->add_option("--model", options->model, "default: the one that is served");
  command->add_option("--request-id", options->request_id, "default: made by the coordinator");
  AddInputOptions(*command, *options);
  AddSamplingOptions(*command, *options);
  command->add_option("--max-draft-tokens", options->max_draft_tokens, "0: no speculation");
  command->add_option("--timeout", options->timeout_s, "seconds")->capture_default_str();
  command->add_flag("--json", options->json, "one JSON document");
  command->callback([options, &run] { run = [options] { return RunGenerate(*options); }; });
}

}  // namespace krait
