#include "worker/tools/bench_decode.h"

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
#include "common/status_macros.h"
#include "kernels/cpu/read_bandwidth.h"
#include "worker/models/model_config.h"
#include "worker/tools/bench_proposers.h"
#include "worker/tools/bench_runner.h"
#include "worker/tools/engine_flags.h"
#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

constexpr char kUsage[] =
    "usage: krait-engine bench decode --model PATH ...\n"
    "  --batch LIST    sequences at a time, default 1\n"
    "  --tokens N      generated a sequence, default 128\n"
    "  --repeats N     pairs of runs with and without drafts, default 5\n"
    "  --no-rows       leave out the cost of verifying 1 to 8 rows\n"
    "  --draft         also self-trace (the target's own tokens, recorded: a free perfect draft)\n"
    "                  or random (free and wrong): synthetic, to see how K adapts\n"
    "  --json          one JSON document\n";

constexpr int kPromptTokens = 32;
constexpr int kMaxRows = 8;

struct BatchResult {
  int batch = 0;
  double step_seconds = 0;
  double tokens_per_second = 0;
  double kv_bytes = 0;  // read a step, in the middle of the run
};

struct DraftResult {
  std::string draft;
  std::vector<int> drafts_by_round;  // K of the first run's steps
  std::vector<double> ratios;        // tokens/s to K = 0, pair by pair
  double tokens_per_second = 0;      // median
  double plain_tokens_per_second = 0;
  double acceptance = 0;
  bool same_tokens = true;
};

struct Report {
  int threads = 0;
  int ranks = 0;
  std::string dtype;
  double read_bandwidth = 0;
  double weight_bytes = 0;
  std::vector<BatchResult> batches;
  std::vector<double> row_seconds;  // of a step that verifies 1, 2, ... rows
  std::vector<DraftResult> drafts;
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

struct BenchOptions {
  EngineFlags flags;
  std::vector<int> batches = {1};
  int tokens = 128;
  int repeats = 5;
  bool rows = true;
};

absl::StatusOr<BenchOptions> ReadOptions(const CommandLine& line) {
  BenchOptions options;
  if (line.words != std::vector<std::string>{"decode"}) {
    return FieldError("bench", "the one benchmark is: bench decode");
  }
  ASSIGN_OR_RETURN(options.flags, ReadEngineFlags(line));
  ASSIGN_OR_RETURN(const int64_t tokens, IntOption(line, "tokens", 128, 16, 1 << 16));
  ASSIGN_OR_RETURN(const int64_t repeats, IntOption(line, "repeats", 5, 1, 1000));
  options.tokens = static_cast<int>(tokens);
  options.repeats = static_cast<int>(repeats);
  options.rows = !line.Switched("no-rows");
  if (line.Has("batch")) {
    options.batches.clear();
    for (const auto part : absl::StrSplit(line.values.at("batch"), ',')) {
      int batch = 0;
      if (!absl::SimpleAtoi(part, &batch) || batch < 1 || batch > 256) {
        return FieldError("--batch", "must be a list of numbers in [1, 256]");
      }
      options.batches.push_back(batch);
    }
  }
  return options;
}

absl::StatusOr<ModelConfig> LoadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(path));
  return ModelConfig::Load(checkpoint);
}

// The engine to measure, with its recorder.
struct Bench {
  RealClock clock;
  StepRecorder recorder;
  std::unique_ptr<Engine> engine;
};

absl::Status Open(const BenchOptions& options, EngineConfig config,
                  std::unique_ptr<Proposer> proposer, Bench& bench) {
  const int most = *std::max_element(options.batches.begin(), options.batches.end());
  config.max_running = most;
  config.max_num_batched_tokens = std::max(config.max_num_batched_tokens, most);
  const int pages = (kPromptTokens + options.tokens + 15) / 16;
  config.group.runner.num_pages = pages * most;
  ASSIGN_OR_RETURN(bench.engine, Engine::Create(config, std::move(proposer), &bench.clock,
                                                &bench.recorder, nullptr));
  return absl::OkStatus();
}

absl::Status MeasureBatches(const BenchOptions& options, Bench& bench, Report& report) {
  for (int batch : options.batches) {
    ASSIGN_OR_RETURN(
        const BenchRun run,
        RunWorkload(*bench.engine, bench.recorder, {.batch = batch, .max_tokens = options.tokens}));
    const double context = kPromptTokens + options.tokens / 2.0;
    report.batches.push_back(
        {.batch = batch,
         .step_seconds = run.MedianStepSeconds(),
         .tokens_per_second = run.TokensPerSecond(),
         .kv_bytes = batch * context * bench.engine->group().kv_bytes_per_token()});
  }
  return absl::OkStatus();
}

// Rows are measured in turns, so that a slow spell of the machine hits all of them.
absl::Status MeasureRows(const BenchOptions& options, Report& report) {
  EngineConfig config = options.flags.config;
  config.max_draft_tokens = kMaxRows - 1;
  config.fixed_draft_tokens = true;
  BenchOptions single = options;
  single.batches = {1};
  Bench bench;
  ASSIGN_OR_RETURN(const ModelConfig model, LoadConfig(config.group.model_path));
  RETURN_IF_ERROR(Open(single, config,
                       std::make_unique<RandomProposer>(static_cast<int>(model.vocab_size), 1),
                       bench));
  std::vector<std::vector<double>> seconds(kMaxRows);
  constexpr int kTurns = 4;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (int rows = 1; rows <= kMaxRows; ++rows) {
      ASSIGN_OR_RETURN(BenchRun run, RunWorkload(*bench.engine, bench.recorder,
                                                 {.max_tokens = 32, .max_draft_tokens = rows - 1}));
      for (const StepStats& step : run.steps) {
        // The last steps may verify fewer: max_tokens is near.
        if (step.draft_tokens == rows - 1) {
          seconds[rows - 1].push_back(absl::ToDoubleSeconds(step.duration));
        }
      }
    }
  }
  for (const std::vector<double>& samples : seconds) report.row_seconds.push_back(Median(samples));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Proposer>> MakeDraft(const BenchOptions& options, const Clock* clock,
                                                    TraceProposer** trace) {
  if (options.flags.draft == "self-trace") {
    auto proposer = std::make_unique<TraceProposer>();
    *trace = proposer.get();
    return proposer;
  }
  if (options.flags.draft == "random") {
    ASSIGN_OR_RETURN(const ModelConfig model, LoadConfig(options.flags.config.group.model_path));
    return std::make_unique<RandomProposer>(static_cast<int>(model.vocab_size), 1);
  }
  EngineFlags flags = options.flags;
  flags.config.max_running = 1;
  return MakeProposerOf(flags, clock);
}

// Pairs of runs of one prompt, without and with drafts, in one process.
absl::Status MeasureDraft(const BenchOptions& options, Report& report) {
  if (options.flags.draft == "none") return absl::OkStatus();
  BenchOptions single = options;
  single.batches = {1};
  Bench bench;
  TraceProposer* trace = nullptr;
  ASSIGN_OR_RETURN(auto proposer, MakeDraft(options, &bench.clock, &trace));
  RETURN_IF_ERROR(Open(single, options.flags.config, std::move(proposer), bench));
  DraftResult result{.draft = options.flags.draft};
  std::vector<double> plain, drafted;
  double proposed = 0, accepted = 0;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    BenchWorkload workload{.max_tokens = options.tokens};
    ASSIGN_OR_RETURN(const BenchRun without, RunWorkload(*bench.engine, bench.recorder, workload));
    if (trace != nullptr) {
      std::vector<TokenId> tokens = BenchPrompt(bench.engine->vocab_size(), kPromptTokens, 0);
      tokens.insert(tokens.end(), without.first_output.begin(), without.first_output.end());
      trace->SetTrace(std::move(tokens));
    }
    workload.max_draft_tokens = options.flags.config.max_draft_tokens;
    ASSIGN_OR_RETURN(const BenchRun with, RunWorkload(*bench.engine, bench.recorder, workload));
    result.same_tokens &= with.first_output == without.first_output;
    for (const StepStats& step : with.steps) {
      if (repeat == 0) result.drafts_by_round.push_back(step.draft_tokens);
      proposed += step.draft_tokens;
      accepted += step.accepted_tokens;
    }
    plain.push_back(without.TokensPerSecond());
    drafted.push_back(with.TokensPerSecond());
    result.ratios.push_back(drafted.back() / plain.back());
  }
  result.plain_tokens_per_second = Median(plain);
  result.tokens_per_second = Median(drafted);
  result.acceptance = proposed > 0 ? accepted / proposed : 0;
  report.drafts.push_back(std::move(result));
  return absl::OkStatus();
}

absl::StatusOr<Report> Measure(const BenchOptions& options) {
  Report report;
  const EngineConfig& config = options.flags.config;
  report.threads = config.group.num_threads;
  report.ranks = config.group.tensor_parallel_size;
  report.dtype = Name(config.group.runner.weight_dtype);
  report.read_bandwidth = kernels::MeasureReadBandwidth(report.threads);
  {
    Bench bench;
    RETURN_IF_ERROR(Open(options, config, nullptr, bench));
    report.weight_bytes = static_cast<double>(bench.engine->group().weight_bytes());
    RETURN_IF_ERROR(MeasureBatches(options, bench, report));
  }
  // Bandwidth may drift while the machine is shared: the better of before and after counts.
  report.read_bandwidth =
      std::max(report.read_bandwidth, kernels::MeasureReadBandwidth(report.threads));
  if (options.rows) RETURN_IF_ERROR(MeasureRows(options, report));
  RETURN_IF_ERROR(MeasureDraft(options, report));
  return report;
}

double Fraction(const Report& report, const BatchResult& batch) {
  if (report.read_bandwidth <= 0 || batch.step_seconds <= 0) return 0;
  return (report.weight_bytes + batch.kv_bytes) / batch.step_seconds / report.read_bandwidth;
}

void PrintTable(const Report& report) {
  std::printf("threads %d, ranks %d, weights %s\n", report.threads, report.ranks,
              report.dtype.c_str());
  std::printf("read bandwidth of this machine, same run: %.1f GB/s\n", report.read_bandwidth / 1e9);
  std::printf("bytes a step: weights %.1f MB, state 0\n\n", report.weight_bytes / 1e6);
  std::printf("%5s %10s %10s %8s %9s %9s\n", "batch", "step ms", "tokens/s", "KV MB", "GB/s",
              "fraction");
  for (const BatchResult& batch : report.batches) {
    std::printf("%5d %10.3f %10.1f %8.2f %9.1f %9.3f\n", batch.batch, batch.step_seconds * 1e3,
                batch.tokens_per_second, batch.kv_bytes / 1e6,
                (report.weight_bytes + batch.kv_bytes) / batch.step_seconds / 1e9,
                Fraction(report, batch));
  }
  if (!report.row_seconds.empty()) {
    std::printf("\n%5s %10s %10s\n", "rows", "step ms", "of one");
    for (size_t i = 0; i < report.row_seconds.size(); ++i) {
      std::printf("%5zu %10.3f %10.2f\n", i + 1, report.row_seconds[i] * 1e3,
                  report.row_seconds[i] / report.row_seconds[0]);
    }
  }
  for (const DraftResult& draft : report.drafts) {
    std::printf(
        "\ndraft %s: %.1f tokens/s, without %.1f; ratio median %.3f, first run %.3f, "
        "worst %.3f; acceptance %.3f; same tokens: %s\n",
        draft.draft.c_str(), draft.tokens_per_second, draft.plain_tokens_per_second,
        Median(draft.ratios), draft.ratios[0],
        *std::min_element(draft.ratios.begin(), draft.ratios.end()), draft.acceptance,
        draft.same_tokens ? "yes" : "NO");
    std::printf("K by round of the first run: %s\n",
                absl::StrJoin(draft.drafts_by_round, " ").c_str());
  }
}

std::string DraftJson(const DraftResult& draft) {
  return absl::StrFormat(
      "{\"draft\":\"%s\",\"tokens_per_second\":%.6g,\"plain_tokens_per_second\":%.6g,"
      "\"ratio\":%.6g,\"ratios\":[%s],\"acceptance\":%.6g,\"same_tokens\":%s,"
      "\"drafts_by_round\":[%s]}",
      draft.draft == "self-trace" || draft.draft == "random" || draft.draft == "ngram" ? draft.draft
                                                                                       : "model",
      draft.tokens_per_second, draft.plain_tokens_per_second, Median(draft.ratios),
      absl::StrJoin(draft.ratios, ","), draft.acceptance, draft.same_tokens ? "true" : "false",
      absl::StrJoin(draft.drafts_by_round, ","));
}

void PrintJson(const Report& report) {
  std::printf(
      "{\"threads\":%d,\"ranks\":%d,\"weight_dtype\":\"%s\","
      "\"read_bandwidth_bytes_per_second\":%.6g,\"weight_bytes\":%.0f,\"state_bytes\":0,"
      "\"batches\":[",
      report.threads, report.ranks, report.dtype.c_str(), report.read_bandwidth,
      report.weight_bytes);
  for (size_t i = 0; i < report.batches.size(); ++i) {
    const BatchResult& batch = report.batches[i];
    std::printf(
        "%s{\"batch\":%d,\"step_seconds\":%.6g,\"tokens_per_second\":%.6g,\"kv_bytes\":%.0f,"
        "\"bandwidth_fraction\":%.4f}",
        i ? "," : "", batch.batch, batch.step_seconds, batch.tokens_per_second, batch.kv_bytes,
        Fraction(report, batch));
  }
  std::printf("],\"row_seconds\":[%s],\"drafts\":[%s]}\n",
              absl::StrJoin(report.row_seconds, ",").c_str(),
              absl::StrJoin(report.drafts, ",", [](std::string* out, const DraftResult& draft) {
                absl::StrAppend(out, DraftJson(draft));
              }).c_str());
}

}  // namespace

int RunBenchDecode(int argc, char** argv) {
  std::vector<std::string> names = {"batch", "tokens", "repeats"};
  names.insert(names.end(), kEngineOptions.begin(), kEngineOptions.end());
  const auto line = ParseCommandLine(argc, argv, names, {"json", "no-rows", "help"});
  if (line.ok() && line->Switched("help")) {
    std::printf("%s%s", kUsage, kEngineUsage);
    return 0;
  }
  const auto options = line.ok() ? ReadOptions(*line) : absl::StatusOr<BenchOptions>(line.status());
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n%s%s", std::string(options.status().message()).c_str(), kUsage,
                 kEngineUsage);
    return kExitUsage;
  }
  const absl::StatusOr<Report> report = Measure(*options);
  if (!report.ok()) {
    std::fprintf(stderr, "%s\n", std::string(report.status().message()).c_str());
    return ExitCodeFor(report.status());
  }
  line->Switched("json") ? PrintJson(*report) : PrintTable(*report);
  return 0;
}

}  // namespace krait
