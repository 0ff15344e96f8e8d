#include "worker/runner/process_report.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/comm/process_group.h"

namespace krait {
namespace {

constexpr size_t kFields = 5;
constexpr size_t kFieldsOfRank = 3;

}  // namespace

std::string PackReport(const ProcessReport& report) {
  std::vector<std::string> fields = {
      report.error, report.weights_digest, absl::StrCat(report.weight_bytes),
      absl::StrCat(report.kv_bytes_per_token), absl::StrCat(report.state_bytes_per_slot)};
  for (const RankPlace& rank : report.ranks) {
    fields.insert(fields.end(), {rank.device, rank.host, absl::StrCat(rank.pid)});
  }
  return PackStrings(fields);
}

absl::StatusOr<ProcessReport> UnpackReport(std::string_view packed) {
  ASSIGN_OR_RETURN(const std::vector<std::string> fields, UnpackStrings(packed));
  ProcessReport report;
  bool valid = fields.size() >= kFields && (fields.size() - kFields) % kFieldsOfRank == 0;
  valid = valid && absl::SimpleAtoi(fields[2], &report.weight_bytes) &&
          absl::SimpleAtoi(fields[3], &report.kv_bytes_per_token) &&
          absl::SimpleAtoi(fields[4], &report.state_bytes_per_slot);
  for (size_t i = kFields; valid && i < fields.size(); i += kFieldsOfRank) {
    RankPlace& rank = report.ranks.emplace_back();
    rank.device = fields[i];
    rank.host = fields[i + 1];
    valid = absl::SimpleAtoi(fields[i + 2], &rank.pid);
  }
  if (!valid) return absl::InternalError("not a process's report");
  report.error = fields[0];
  report.weights_digest = fields[1];
  return report;
}

}  // namespace krait
