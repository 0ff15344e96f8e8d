#include "worker/tools/engine_flags.h"

#include <algorithm>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/speculative/proposer_factory.h"

namespace krait {
namespace {

constexpr int kAdaptiveDraftTokens = 8;
constexpr int kMaxDraftTokens = 16;
constexpr int kMaxRanks = 64;
constexpr int kMaxThreads = 1024;
constexpr int kMaxBatchedTokens = 1 << 16;

// Empty if `text` is "adaptive" or a number in range; else what is wrong with it.
std::string CheckDraftTokens(const std::string& text) {
  int tokens = 0;
  if (text == "adaptive") return "";
  if (absl::SimpleAtoi(text, &tokens) && tokens >= 0 && tokens <= kMaxDraftTokens) return "";
  return absl::StrCat("want adaptive or a number in [0 - ", kMaxDraftTokens, "], got ", text);
}

void SetDraftTokens(const std::string& text, EngineConfig& config) {
  config.fixed_draft_tokens = absl::SimpleAtoi(text, &config.max_draft_tokens);
  if (!config.fixed_draft_tokens) config.max_draft_tokens = kAdaptiveDraftTokens;
}

void SetDefaults(EngineFlags& flags) {
  flags.config.group.tensor_parallel_size = 1;
  flags.config.group.num_threads =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  flags.config.group.runner.weight_dtype = DType::kBF16;
  flags.config.max_num_batched_tokens = 256;
  SetDraftTokens("adaptive", flags.config);
  flags.draft = "none";
}

}  // namespace

void AddEngineOptions(CLI::App& app, EngineFlags& flags) {
  SetDefaults(flags);
  RankGroupOptions& group = flags.config.group;
  app.add_option("--model", group.model_path, "a .gguf file or a model folder")
      ->type_name("PATH")
      ->required();
  app.add_option("--tp", group.tensor_parallel_size, "tensor-parallel ranks (default 1)")
      ->check(CLI::Range(1, kMaxRanks));
  app.add_option("--threads", group.num_threads, "over all ranks (default: one a core)")
      ->check(CLI::Range(1, kMaxThreads));
  app.add_option_function<std::string>(
         "--device", [&group](const std::string& text) { group.device = *ParseDevice(text); },
         "cpu (default), cuda or cuda:N")
      ->type_name("DEVICE")
      ->check(
          [](const std::string& text) { return std::string(ParseDevice(text).status().message()); },
          "");
  app.add_option_function<std::string>(
         "--comm",
         [&group](const std::string& text) {
           if (text == "in-process") group.comm = CommKind::kInProcess;
         },
         "how ranks on GPUs add up: auto (default: NCCL, a GPU each) or in-process (all on one)")
      ->check(CLI::IsMember({"auto", "in-process"}));
  app.add_option_function<std::string>(
         "--weight-dtype",
         [&group](const std::string& text) {
           group.runner.weight_dtype = text == "f32" ? DType::kF32 : DType::kBF16;
         },
         "default bf16")
      ->check(CLI::IsMember({"bf16", "f32"}));
  app.add_option("--max-num-batched-tokens", flags.config.max_num_batched_tokens,
                 "of one step (default 256)")
      ->check(CLI::Range(1, kMaxBatchedTokens));
  app.add_option("--draft", flags.draft, "none (default), ngram, or a draft model")
      ->type_name("none|ngram|PATH");
  app.add_option_function<std::string>(
         "--draft-tokens",
         [&flags](const std::string& text) { SetDraftTokens(text, flags.config); },
         absl::StrCat("a round (default: adaptive, at most ", kAdaptiveDraftTokens, ")"))
      ->type_name("K|adaptive")
      ->check(CheckDraftTokens, "");
}

absl::StatusOr<std::unique_ptr<Proposer>> MakeProposerOf(const EngineFlags& flags,
                                                         const Clock* clock) {
  if (flags.draft == "none" || flags.draft == "ngram") {
    return MakeProposer({.kind = flags.draft, .draft = {}}, clock);
  }
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(flags.config.group.model_path));
  ProposerOptions options{.kind = "draft_model", .draft = {}};
  options.draft.model_path = flags.draft;
  options.draft.device = flags.config.group.device;
  options.draft.num_threads = flags.config.group.num_threads;
  options.draft.runner.weight_dtype = flags.config.group.runner.weight_dtype;
  options.draft.runner.num_pages = flags.config.group.runner.num_pages;
  options.draft.max_sequences = flags.config.max_running;
  options.draft.tokenizer_digest = vocabulary.Digest();
  return MakeProposer(options, clock);
}

}  // namespace krait
