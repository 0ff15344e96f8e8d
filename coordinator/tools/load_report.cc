#include "coordinator/tools/load_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace krait {
namespace {

using nlohmann::ordered_json;

double Ms(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

// Null where there is no sample: a zero would look like a measurement.
ordered_json LatencyJson(const LatencyHistogram& latency) {
  if (latency.count() == 0) return nullptr;
  return {{"count", latency.count()},          {"mean", Ms(latency.mean())},
          {"p50", Ms(latency.Quantile(0.50))}, {"p90", Ms(latency.Quantile(0.90))},
          {"p95", Ms(latency.Quantile(0.95))}, {"p99", Ms(latency.Quantile(0.99))},
          {"max", Ms(latency.max())}};
}

ordered_json ArrivalJson(const LoadOptions& options) {
  ordered_json arrival = {{"loop", options.rate ? "open" : "closed"}};
  if (options.rate) {
    arrival["rate"] = *options.rate;
  } else {
    arrival["concurrency"] = options.concurrency;
  }
  arrival["seed"] = options.seed();
  return arrival;
}

template <typename T>
ordered_json OrNull(const std::optional<T>& value) {
  return value.has_value() ? ordered_json(*value) : ordered_json(nullptr);
}

// Of all requests but those that this client cancelled itself.
ordered_json GoodputJson(const LoadOptions& options, const LoadCounts& counts, double seconds) {
  const int64_t meant = counts.completed + counts.rejected + counts.failed;
  return {{"slo_ttft_ms", OrNull(options.slo_ttft_ms)},
          {"slo_itl_ms", OrNull(options.slo_itl_ms)},
          {"requests_per_second", static_cast<double>(counts.good) / seconds},
          {"share", meant == 0 ? ordered_json(nullptr)
                               : ordered_json(static_cast<double>(counts.good) /
                                              static_cast<double>(meant))}};
}

// "p50 12.3  p90 ..." of a latency of the report.
std::string LatencyRow(const char* name, const ordered_json& latency) {
  if (latency.is_null()) return "";
  std::string row = absl::StrFormat("  %-24s", name);
  for (const char* figure : {"mean", "p50", "p90", "p95", "p99", "max"}) {
    absl::StrAppendFormat(&row, " %10.2f", latency[figure].get<double>());
  }
  return row + "\n";
}

}  // namespace

ordered_json LoadReport(const LoadOptions& options, const LoadRecorder& recorder) {
  const LoadCounts counts = recorder.counts();
  const double seconds = recorder.seconds();
  ordered_json report = ArrivalJson(options);
  report["seconds"] = seconds;
  report["completed"] = counts.completed;
  report["cancelled"] = counts.cancelled;
  report["rejected"] = counts.rejected;
  report["failed"] = counts.failed;
  report["errors"] = ordered_json::object();
  for (const auto& [code, count] : counts.errors) report["errors"][code] = count;
  report["prompt_tokens"] = counts.prompt_tokens;
  report["output_tokens"] = recorder.tokens_in_window();
  report["requests_per_second"] = static_cast<double>(counts.completed) / seconds;
  report["output_tokens_per_second"] = static_cast<double>(recorder.tokens_in_window()) / seconds;
  report["goodput"] = GoodputJson(options, counts, seconds);
  report["time_to_first_token_ms"] = LatencyJson(recorder.ttft);
  report["inter_token_ms"] = LatencyJson(recorder.inter_token);
  report["time_per_output_token_ms"] = LatencyJson(recorder.per_token);
  report["total_ms"] = LatencyJson(recorder.total);
  report["reject_ms"] = LatencyJson(recorder.reject);
  report["start_delay_ms"] = LatencyJson(recorder.start_delay);
  return report;
}

std::string LoadTable(const ordered_json& report) {
  std::string table = absl::StrFormat(
      "%d completed, %d cancelled, %d rejected, %d failed in %.2f s\n"
      "%.1f requests/s, %.1f output tokens/s; goodput %.1f requests/s\n",
      report["completed"].get<int64_t>(), report["cancelled"].get<int64_t>(),
      report["rejected"].get<int64_t>(), report["failed"].get<int64_t>(),
      report["seconds"].get<double>(), report["requests_per_second"].get<double>(),
      report["output_tokens_per_second"].get<double>(),
      report["goodput"]["requests_per_second"].get<double>());
  for (const auto& [code, count] : report["errors"].items()) {
    absl::StrAppend(&table, "  ", code, ": ", count.get<int64_t>(), "\n");
  }
  absl::StrAppendFormat(&table, "  %-24s %10s %10s %10s %10s %10s %10s\n", "ms", "mean", "p50",
                        "p90", "p95", "p99", "max");
  constexpr std::pair<const char*, const char*> kRows[] = {
      {"time to first token", "time_to_first_token_ms"},
      {"between tokens", "inter_token_ms"},
      {"a request's mean of it", "time_per_output_token_ms"},
      {"whole request", "total_ms"},
      {"refusal", "reject_ms"},
      {"client's start delay", "start_delay_ms"}};
  for (const auto& [name, key] : kRows) absl::StrAppend(&table, LatencyRow(name, report[key]));
  return table;
}

}  // namespace krait
