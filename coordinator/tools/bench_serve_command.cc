// krait bench serve: load over gRPC against a running coordinator, and what its clients see.

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/json_document.h"
#include "common/status_macros.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/load_generator.h"
#include "coordinator/tools/load_report.h"

namespace krait {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(10);

absl::Status BenchServe(const LoadOptions& options) {
  if (options.duration_s && options.warmup_s >= *options.duration_s) {
    return absl::InvalidArgumentError(absl::StrCat("--warmup: must be less than --duration (",
                                                   *options.duration_s, "), got ",
                                                   options.warmup_s));
  }
  ASSIGN_OR_RETURN(RequestSource source, RequestSource::Create(options));
  const RealClock clock;
  LoadGenerator generator(options, clock);
  RETURN_IF_ERROR(generator.Connect(kConnectTimeout));
  const auto recorder = std::make_unique<LoadRecorder>(options);
  generator.Run(source, *recorder);
  const nlohmann::ordered_json report = LoadReport(options, *recorder);
  std::fputs((options.as_json ? DumpJson(report) + "\n" : LoadTable(report)).c_str(), stdout);
  const LoadCounts counts = recorder->counts();
  if (counts.completed + counts.cancelled > 0) return absl::OkStatus();
  return absl::UnavailableError("no request completed");
}

}  // namespace

std::function<int()> DeclareBenchServe(CLI::App& app) {
  const auto options = std::make_shared<LoadOptions>();
  AddLoadOptions(app, *options);
  return [options] { return EndCommand("bench serve", BenchServe(*options)); };
}

}  // namespace krait
