#include "worker/tools/engine_flags.h"

#include <algorithm>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/speculative/proposer_factory.h"

namespace krait {

const std::vector<std::string> kEngineOptions = {
    "model", "tp", "threads", "weight-dtype", "max-num-batched-tokens", "draft", "draft-tokens"};

const char kEngineUsage[] =
    "  --model PATH                 a .gguf file or a model folder\n"
    "  --tp N                       tensor-parallel ranks, default 1\n"
    "  --threads N                  over all ranks, default one a core\n"
    "  --weight-dtype bf16|f32      default bf16\n"
    "  --max-num-batched-tokens N   of one step, default 256\n"
    "  --draft none|ngram|PATH      default none\n"
    "  --draft-tokens K|adaptive    default adaptive, at most 8\n";

namespace {

constexpr int kAdaptiveDraftTokens = 8;
constexpr int kMaxDraftTokens = 16;

absl::Status ReadDraftTokens(const CommandLine& line, EngineConfig& config) {
  const auto it = line.values.find("draft-tokens");
  config.max_draft_tokens = kAdaptiveDraftTokens;
  config.fixed_draft_tokens = it != line.values.end() && it->second != "adaptive";
  if (!config.fixed_draft_tokens) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t count,
                   IntOption(line, "draft-tokens", kAdaptiveDraftTokens, 0, kMaxDraftTokens));
  config.max_draft_tokens = static_cast<int>(count);
  return absl::OkStatus();
}

absl::StatusOr<DType> ReadWeightDtype(const CommandLine& line) {
  const auto it = line.values.find("weight-dtype");
  if (it == line.values.end() || it->second == "bf16") return DType::kBF16;
  if (it->second == "f32") return DType::kF32;
  return FieldError("--weight-dtype", absl::StrCat("must be bf16 or f32, got ", it->second));
}

}  // namespace

absl::StatusOr<int64_t> IntOption(const CommandLine& line, const std::string& name,
                                  int64_t otherwise, int64_t low, int64_t high) {
  const auto it = line.values.find(name);
  if (it == line.values.end()) return otherwise;
  int64_t value = 0;
  if (!absl::SimpleAtoi(it->second, &value) || value < low || value > high) {
    return FieldError(absl::StrCat("--", name), absl::StrCat("must be an integer in [", low, ", ",
                                                             high, "], got ", it->second));
  }
  return value;
}

absl::StatusOr<double> DoubleOption(const CommandLine& line, const std::string& name,
                                    double otherwise) {
  const auto it = line.values.find(name);
  if (it == line.values.end()) return otherwise;
  double value = 0;
  if (!absl::SimpleAtod(it->second, &value)) {
    return FieldError(absl::StrCat("--", name), absl::StrCat("must be a number, got ", it->second));
  }
  return value;
}

absl::StatusOr<EngineFlags> ReadEngineFlags(const CommandLine& line) {
  EngineFlags flags;
  if (!line.Has("model")) return FieldError("--model", "is required");
  RankGroupOptions& group = flags.config.group;
  group.model_path = line.values.at("model");
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  ASSIGN_OR_RETURN(const int64_t ranks, IntOption(line, "tp", 1, 1, 64));
  ASSIGN_OR_RETURN(const int64_t threads, IntOption(line, "threads", cores, 1, 1024));
  ASSIGN_OR_RETURN(const int64_t batched,
                   IntOption(line, "max-num-batched-tokens", 256, 1, 1 << 16));
  group.tensor_parallel_size = static_cast<int>(ranks);
  group.num_threads = static_cast<int>(threads);
  flags.config.max_num_batched_tokens = static_cast<int>(batched);
  ASSIGN_OR_RETURN(group.runner.weight_dtype, ReadWeightDtype(line));
  RETURN_IF_ERROR(ReadDraftTokens(line, flags.config));
  flags.draft = line.Has("draft") ? line.values.at("draft") : "none";
  return flags;
}

absl::StatusOr<std::unique_ptr<Proposer>> MakeProposerOf(const EngineFlags& flags,
                                                         const Clock* clock) {
  if (flags.draft == "none" || flags.draft == "ngram") {
    return MakeProposer({.kind = flags.draft, .draft = {}}, clock);
  }
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(flags.config.group.model_path));
  ProposerOptions options{.kind = "draft_model", .draft = {}};
  options.draft.model_path = flags.draft;
  options.draft.num_threads = flags.config.group.num_threads;
  options.draft.runner.weight_dtype = flags.config.group.runner.weight_dtype;
  options.draft.runner.num_pages = flags.config.group.runner.num_pages;
  options.draft.max_sequences = flags.config.max_running;
  options.draft.tokenizer_digest = vocabulary.Digest();
  return MakeProposer(options, clock);
}

}  // namespace krait
