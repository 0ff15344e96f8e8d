#include "worker/tools/bench_measure.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/status_macros.h"
#include "kernels/read_meter.h"
#include "worker/models/cache_specs.h"
#include "worker/models/model_config.h"
#include "worker/models/model_registry.h"
#include "worker/models/model_shape.h"
#include "worker/tools/bench_proposers.h"
#include "worker/tools/bench_runner.h"
#include "worker/weights/checkpoint.h"

namespace krait {
namespace {

constexpr int kMaxRows = 8;

constexpr int kReducedVocab = 1024;

absl::StatusOr<ModelConfig> LoadConfig(const RankGroupOptions& group) {
  if (group.synthetic) return *group.synthetic;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(group.model_path));
  return ModelConfig::Load(checkpoint);
}

int NumRecurrent(const ModelConfig& config) {
  return static_cast<int>(config.num_layers) - config.num_attention_layers();
}

// The engine to measure, with its recorder.
struct Bench {
  RealClock clock;
  StepRecorder recorder;
  std::unique_ptr<Engine> engine;
};

absl::Status Open(const DecodeBenchOptions& options, EngineConfig config,
                  std::unique_ptr<Proposer> proposer, Bench& bench) {
  const int most = *std::max_element(options.batches.begin(), options.batches.end());
  config.max_running = most;
  config.max_num_batched_tokens = std::max(config.max_num_batched_tokens, most);
  const int pages = (options.context + options.tokens + 15) / 16;
  config.group.runner.num_pages = pages * most;
  ASSIGN_OR_RETURN(bench.engine, Engine::Create(config, std::move(proposer), &bench.clock,
                                                &bench.recorder, nullptr));
  return absl::OkStatus();
}

double MeanStateBytes(const std::vector<StepStats>& steps) {
  double bytes = 0;
  for (const StepStats& step : steps) bytes += static_cast<double>(step.state_traffic.total());
  return steps.empty() ? 0 : bytes / static_cast<double>(steps.size());
}

// Steps in turns with passes over as much memory of the same kind, so that both have the machine at
// its average; `passes` gains what each pass read a second.
absl::StatusOr<BatchResult> MeasureBatch(const BenchWorkload& workload, Bench& bench,
                                         ReadMeter& bandwidth, std::vector<double>& passes) {
  constexpr int kTurns = 8, kPassesPerTurn = 4;
  BenchRun all;
  std::vector<double> own_passes;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (int pass = 0; pass < kPassesPerTurn; ++pass) own_passes.push_back(bandwidth.Pass());
    ASSIGN_OR_RETURN(const BenchRun run, RunWorkload(*bench.engine, bench.recorder, workload));
    all.steps.insert(all.steps.end(), run.steps.begin(), run.steps.end());
  }
  passes.insert(passes.end(), own_passes.begin(), own_passes.end());
  const double context = workload.prompt_tokens + workload.max_tokens / 2.0;
  return BatchResult{
      .batch = workload.batch,
      .step_seconds = all.MedianStepSeconds(),
      .tokens_per_second = all.TokensPerSecond(),
      .kv_bytes = workload.batch * context * bench.engine->group().kv_bytes_per_token(),
      .state_bytes = MeanStateBytes(all.steps),
      .read_bandwidth = Median(std::move(own_passes))};
}

absl::Status MeasureBatches(const DecodeBenchOptions& options, BenchReport& report) {
  Bench bench;
  RETURN_IF_ERROR(Open(options, options.flags.config, nullptr, bench));
  report.weight_bytes = static_cast<double>(bench.engine->group().weight_bytes());
  ASSIGN_OR_RETURN(const std::unique_ptr<ReadMeter> bandwidth,
                   CreateReadMeter(options.flags.config.group.device, report.threads,
                                   static_cast<int64_t>(report.weight_bytes)));
  std::vector<double> passes;
  for (const int batch : options.batches) {
    const BenchWorkload workload{
        .batch = batch, .prompt_tokens = options.context, .max_tokens = options.tokens};
    ASSIGN_OR_RETURN(BatchResult result, MeasureBatch(workload, bench, *bandwidth, passes));
    report.batches.push_back(std::move(result));
  }
  report.best_read_bandwidth = *std::max_element(passes.begin(), passes.end());
  report.read_bandwidth = Median(std::move(passes));
  return absl::OkStatus();
}

// Rows are measured in turns, so that a slow spell of the machine hits all of them.
absl::Status MeasureRows(const DecodeBenchOptions& options, BenchReport& report) {
  EngineConfig config = options.flags.config;
  config.max_draft_tokens = kMaxRows - 1;
  config.fixed_draft_tokens = true;
  DecodeBenchOptions single = options;
  single.batches = {1};
  Bench bench;
  ASSIGN_OR_RETURN(const ModelConfig model, LoadConfig(config.group));
  RETURN_IF_ERROR(Open(single, config,
                       std::make_unique<RandomProposer>(static_cast<int>(model.vocab_size), 1),
                       bench));
  std::vector<std::vector<double>> seconds(kMaxRows);
  constexpr int kTurns = 8;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (int rows = 1; rows <= kMaxRows; ++rows) {
      ASSIGN_OR_RETURN(BenchRun run, RunWorkload(*bench.engine, bench.recorder,
                                                 {.prompt_tokens = options.context,
                                                  .max_tokens = 20,
                                                  .max_draft_tokens = rows - 1}));
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

absl::StatusOr<std::unique_ptr<Proposer>> MakeDraft(const DecodeBenchOptions& options,
                                                    const Clock* clock, TraceProposer** trace) {
  if (options.flags.draft == "self-trace") {
    ASSIGN_OR_RETURN(const ModelConfig model, LoadConfig(options.flags.config.group));
    auto proposer = std::make_unique<TraceProposer>(options.forced_acceptance,
                                                    static_cast<int>(model.vocab_size), 1);
    *trace = proposer.get();
    return proposer;
  }
  if (options.flags.draft == "random") {
    ASSIGN_OR_RETURN(const ModelConfig model, LoadConfig(options.flags.config.group));
    return std::make_unique<RandomProposer>(static_cast<int>(model.vocab_size), 1);
  }
  EngineFlags flags = options.flags;
  flags.config.max_running = 1;
  return MakeProposerOf(flags, clock);
}

// What the steps of one sequence that verified `num_drafts` drafts moved; `scale`: layers of the
// model for each that ran.
StateResult CountStates(const std::vector<StepStats>& steps, int num_drafts, double scale) {
  StateResult result{.num_draft_tokens = num_drafts};
  StateTraffic sum;
  double tokens = 0;
  for (const StepStats& step : steps) {
    if (step.draft_tokens != num_drafts) continue;
    ++result.num_steps;
    tokens += step.generated_tokens;
    sum += step.state_traffic;
  }
  if (result.num_steps == 0) return result;
  const auto mean = [&](int64_t bytes) {
    return static_cast<double>(bytes) * scale / result.num_steps;
  };
  result.tokens_per_step = tokens / result.num_steps;
  result.state_read = mean(sum.state_read);
  result.state_written = mean(sum.state_written);
  result.ring_read = mean(sum.ring_read);
  result.ring_written = mean(sum.ring_written);
  result.conv_bytes = mean(sum.conv_read + sum.conv_written);
  return result;
}

// Pairs of runs of one prompt, without and with drafts, in one process.
absl::Status MeasureDraft(const DecodeBenchOptions& options, BenchReport& report) {
  if (options.flags.draft == "none") return absl::OkStatus();
  DecodeBenchOptions single = options;
  single.batches = {1};
  Bench bench;
  TraceProposer* trace = nullptr;
  ASSIGN_OR_RETURN(auto proposer, MakeDraft(options, &bench.clock, &trace));
  RETURN_IF_ERROR(Open(single, options.flags.config, std::move(proposer), bench));
  DraftResult result{.draft = options.flags.draft};
  std::vector<StepStats> plain_steps, drafted_steps;
  std::vector<double> plain, drafted;
  double proposed = 0, accepted = 0;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    BenchWorkload workload{.prompt_tokens = options.context, .max_tokens = options.tokens};
    ASSIGN_OR_RETURN(const BenchRun without, RunWorkload(*bench.engine, bench.recorder, workload));
    if (trace != nullptr) {
      std::vector<TokenId> tokens = BenchPrompt(bench.engine->vocab_size(), options.context, 0);
      tokens.insert(tokens.end(), without.first_output.begin(), without.first_output.end());
      trace->SetTrace(std::move(tokens));
    }
    workload.max_draft_tokens = options.flags.config.max_draft_tokens;
    ASSIGN_OR_RETURN(const BenchRun with, RunWorkload(*bench.engine, bench.recorder, workload));
    result.same_tokens &= with.first_output == without.first_output;
    plain_steps.insert(plain_steps.end(), without.steps.begin(), without.steps.end());
    drafted_steps.insert(drafted_steps.end(), with.steps.begin(), with.steps.end());
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
  if (report.mixers.empty()) return absl::OkStatus();
  const double scale = report.layers > 0 ? static_cast<double>(report.mixers[0].layers) /
                                               NumRecurrent(*options.flags.config.group.synthetic)
                                         : 1;
  const int most = options.flags.config.max_draft_tokens;
  for (const StateResult& states :
       {CountStates(plain_steps, 0, scale), CountStates(drafted_steps, most, scale)}) {
    const bool first = report.states.empty();
    // None where no step was of this kind, or on a device whose ops do not count.
    if ((first || most > 0) && states.of_states() > 0) report.states.push_back(states);
  }
  return absl::OkStatus();
}

// The kinds of recurrent layers of `config`, as one rank has them.
absl::StatusOr<std::vector<MixerResult>> DescribeMixers(const ModelConfig& config,
                                                        int max_draft_tokens) {
  ASSIGN_OR_RETURN(const Sharding sharding, MakeSharding(ShardingDimsOf(config), 0, 1));
  std::vector<MixerResult> mixers;
  const RecurrentStateSpec spec = StateSpecOf(config, sharding, max_draft_tokens);
  size_t index = 0;
  for (const LayerKind kind : config.layers) {
    if (kind == LayerKind::kAttention) continue;
    const RecurrentLayerSpec& layer = spec.layers[index++];
    const char* name = kind == LayerKind::kMamba1 ? "mamba1" : "mamba2";
    auto known = std::find_if(mixers.begin(), mixers.end(),
                              [&](const MixerResult& mixer) { return mixer.name == name; });
    if (known == mixers.end()) {
      known = mixers.insert(known, {.name = name,
                                    .fold_interval = layer.fold_interval,
                                    .state_bytes = layer.state_bytes(),
                                    .entry_bytes = layer.ring_width * 4});
    }
    ++known->layers;
  }
  return mixers;
}

// Reads the shape, cuts it if wanted, and says so in the report.
absl::Status UseShape(DecodeBenchOptions& options, BenchReport& report) {
  ASSIGN_OR_RETURN(const ModelConfig whole, ReadModelShape(options.synthetic));
  ASSIGN_OR_RETURN(report.mixers, DescribeMixers(whole, options.flags.config.max_draft_tokens));
  std::optional<ModelConfig>& used = options.flags.config.group.synthetic;
  used = whole;
  if (options.layers == 0 || options.layers >= whole.num_layers) return absl::OkStatus();
  used = ReduceModel(whole, options.layers, kReducedVocab);
  if (!report.mixers.empty() && (report.mixers.size() > 1 || NumRecurrent(*used) == 0)) {
    return FieldError(
        "layers",
        absl::StrCat(options.layers, " layers do not stand for all of ", options.synthetic,
                     ": one kind of Mamba layers, and one of them, wanted"));
  }
  report.layers = options.layers;
  report.all_layers = static_cast<int>(whole.num_layers);
  report.vocab_size = static_cast<int>(used->vocab_size);
  report.all_vocab_size = static_cast<int>(whole.vocab_size);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BenchReport> MeasureDecode(DecodeBenchOptions options) {
  BenchReport report;
  if (options.synthetic.empty()) {
    ASSIGN_OR_RETURN(const ModelConfig model, LoadConfig(options.flags.config.group));
    ASSIGN_OR_RETURN(report.mixers, DescribeMixers(model, options.flags.config.max_draft_tokens));
  } else {
    RETURN_IF_ERROR(UseShape(options, report));
  }
  const EngineConfig& config = options.flags.config;
  report.threads = config.group.num_threads;
  report.ranks = config.group.tensor_parallel_size;
  report.weight_dtype = Name(config.group.runner.weight_dtype);
  RETURN_IF_ERROR(MeasureBatches(options, report));
  if (options.rows) RETURN_IF_ERROR(MeasureRows(options, report));
  RETURN_IF_ERROR(MeasureDraft(options, report));
  return report;
}

}  // namespace krait
