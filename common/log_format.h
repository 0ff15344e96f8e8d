#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace krait {

// How a process writes its log.
struct LogOptions {
  bool json = false;
  int verbosity = 0;
};

// `format`: "text", "json" or empty for text. INVALID_ARGUMENT names log_format or log_verbosity (0
// to 9) and the limit.
absl::StatusOr<LogOptions> MakeLogOptions(const std::string& format, int verbosity);

// Once, in main, before other threads start. With `json`, a line is one object: time, severity, pid
// and source, then a string or number for each key=value of prefix and message; words that are
// neither are joined in "text".
void ApplyLogOptions(const LogOptions& options);

// What both formats promise: an entry is one line of at most kMaxLogLineBytes, and one place in the
// source writes at most kMaxLogBurst of them at once and kMaxLogRate a second; what was left out
// is counted in the next entry of that place as suppressed=N. FATAL is never left out, nor, with
// verbosity above 0, INFO.
inline constexpr int kMaxLogLineBytes = 4096;
inline constexpr int kMaxLogBurst = 100;
inline constexpr int kMaxLogRate = 20;

}  // namespace krait
