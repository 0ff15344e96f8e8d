// krait-engine bench decode: what a decoding step costs.

#include <cstdio>
#include <memory>
#include <string>

#include "worker/tools/bench_json.h"
#include "worker/tools/bench_measure.h"
#include "worker/tools/bench_table.h"
#include "worker/tools/engine_flags.h"
#include "worker/tools/engine_tool.h"

namespace krait {
namespace {

constexpr int kMaxBatch = 256;
constexpr int kMinTokens = 16;  // fewer steps have no median to speak of
constexpr int kMaxTokens = 1 << 16;
constexpr int kMaxRepeats = 1000;

int Run(const DecodeBenchOptions& options, bool as_json) {
  const absl::StatusOr<BenchReport> report = MeasureDecode(options);
  if (!report.ok()) return EndCommand(report.status());
  std::fputs((as_json ? BenchJson(*report) : BenchTable(*report)).c_str(), stdout);
  return 0;
}

}  // namespace

std::function<int()> DeclareBenchDecode(CLI::App& app) {
  const auto options = std::make_shared<DecodeBenchOptions>();
  const auto as_json = std::make_shared<bool>(false);
  app.add_option("--batch", options->batches, "sequences at a time: 1,8 (default 1)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, kMaxBatch));
  app.add_option("--context", options->context, "prompt tokens a sequence (default 32)")
      ->check(CLI::Range(1, kMaxTokens));
  app.add_option("--tokens", options->tokens, "generated a sequence (default 128)")
      ->check(CLI::Range(kMinTokens, kMaxTokens));
  app.add_option("--repeats", options->repeats, "pairs of runs with and without drafts (default 5)")
      ->check(CLI::Range(1, kMaxRepeats));
  app.add_flag_callback(
      "--no-rows", [options] { options->rows = false; },
      "leave out the cost of verifying 1 to 8 rows");
  app.add_flag_callback(
      "--no-overlap", [options] { options->flags.config.group.runs_ahead = false; },
      "finish each step before the next one starts, on a GPU too");
  app.add_flag("--json", *as_json, "one JSON document");
  AddEngineOptions(app, options->flags);
  auto* model = app.get_option("--model");
  model->required(false);
  auto* synthetic =
      app.add_option("--synthetic", options->synthetic,
                     "weights nobody trained in a shape (deploy/shapes) instead of a model")
          ->type_name("SHAPE.json")
          ->excludes(model);
  app.add_option("--layers", options->layers,
                 "only the first of the shape, and few token ids; states are counted for all")
      ->check(CLI::Range(1, 512))
      ->needs(synthetic);
  app.add_option("--forced-acceptance", options->forced_acceptance,
                 "the chance that a draft of self-trace is right (default 1)")
      ->check(CLI::Range(0.0, 1.0));
  app.callback([model, synthetic] {
    if (model->count() + synthetic->count() == 0)
      throw CLI::RequiredError("--model or --synthetic");
  });
  app.get_option("--draft")->description(
      "none (default), ngram, a draft model; or, to see how K adapts, self-trace (the target's own "
      "tokens, recorded: a free perfect draft) or random (free and wrong)");
  return [options, as_json] { return Run(*options, *as_json); };
}

}  // namespace krait
