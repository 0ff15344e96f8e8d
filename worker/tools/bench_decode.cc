#include "worker/tools/bench_decode.h"

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/build_info.h"
#include "common/field_error.h"
#include "common/status_macros.h"
#include "worker/tools/bench_json.h"
#include "worker/tools/bench_measure.h"
#include "worker/tools/bench_table.h"
#include "worker/tools/engine_flags.h"

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

absl::StatusOr<DecodeBenchOptions> ReadOptions(const CommandLine& line) {
  DecodeBenchOptions options;
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

}  // namespace

int RunBenchDecode(int argc, char** argv) {
  std::vector<std::string> names = {"batch", "tokens", "repeats"};
  names.insert(names.end(), kEngineOptions.begin(), kEngineOptions.end());
  const auto line = ParseCommandLine(argc, argv, names, {"json", "no-rows", "help"});
  if (line.ok() && line->Switched("help")) {
    std::printf("%s%s", kUsage, kEngineUsage);
    return 0;
  }
  const auto options =
      line.ok() ? ReadOptions(*line) : absl::StatusOr<DecodeBenchOptions>(line.status());
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n%s%s", std::string(options.status().message()).c_str(), kUsage,
                 kEngineUsage);
    return kExitUsage;
  }
  const absl::StatusOr<BenchReport> report = MeasureDecode(*options);
  if (!report.ok()) {
    std::fprintf(stderr, "%s\n", std::string(report.status().message()).c_str());
    return ExitCodeFor(report.status());
  }
  const std::string text = line->Switched("json") ? BenchJson(*report) : BenchTable(*report);
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace krait
