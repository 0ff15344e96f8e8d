#pragma once

#include <string>
#include <string_view>

#include "common/logging.h"

namespace krait {

// One log entry before it is written.
struct LogEntry {
  LogSeverity severity = LogSeverity::kInfo;
  std::string time;  // RFC 3339, UTC
  int pid = 0;
  std::string_view file;  // without folders
  int line = 0;
  std::string prefix;
  std::string message;
};

// One line with its newline, at most kMaxLogLineBytes (common/log_format.h): what is longer is cut
// and ends in "...".
std::string FormatText(const LogEntry& entry);
std::string FormatJson(const LogEntry& entry);

}  // namespace krait
