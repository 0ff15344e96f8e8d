#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace krait {

// Where a rank lives.
struct RankPlace {
  std::string device;  // e.g. "cpu:0"
  std::string host;
  int64_t pid = 0;
};

// What a process of a group tells the others once it has loaded, or could not.
struct ProcessReport {
  std::string error;  // then nothing else counts
  std::string weights_digest;
  int64_t weight_bytes = 0;          // over its ranks
  int64_t kv_bytes_per_token = 0;    // over its ranks
  int64_t state_bytes_per_slot = 0;  // over its ranks
  std::vector<RankPlace> ranks;
};

std::string PackReport(const ProcessReport& report);
// INTERNAL if the bytes are no report.
absl::StatusOr<ProcessReport> UnpackReport(std::string_view packed);

}  // namespace krait
