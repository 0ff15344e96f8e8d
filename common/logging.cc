#include "common/logging.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/log_entry.h"
#include "common/log_format.h"
#include "common/log_limiter.h"
#include "common/strings.h"

namespace krait {
namespace {

std::atomic<int> min_severity{static_cast<int>(LogSeverity::kInfo)};
std::atomic<int> verbosity{0};
std::atomic<bool> json{false};

std::string& Prefix() {
  static std::string& prefix = *new std::string;  // never destroyed: threads may log during exit
  return prefix;
}

std::string Timestamp() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc;
  gmtime_r(&now.tv_sec, &utc);
  return absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", utc.tm_year + 1900, utc.tm_mon + 1,
                         utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000);
}

const char* BaseName(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

absl::Duration MonotonicNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

// The number of entries of this place left out before this one; empty if this one is left out too.
std::optional<int64_t> TakeTurn(LogSeverity severity, const char* file, int line) {
  if (severity == LogSeverity::kFatal) return 0;
  if (severity == LogSeverity::kInfo && Verbosity() > 0) return 0;
  // Never destroyed: threads may log during exit.
  static absl::Mutex& mutex = *new absl::Mutex;
  static LogLimiter& limiter = *new LogLimiter(kMaxLogBurst, kMaxLogRate);
  absl::MutexLock lock(&mutex);
  return limiter.Take(file, line, MonotonicNow());
}

void WriteAll(const std::string& line) {
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t n = ::write(STDERR_FILENO, line.data() + done, line.size() - done);
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

}  // namespace

void SetMinLogSeverity(LogSeverity severity) { min_severity = static_cast<int>(severity); }
void SetVerbosity(int level) { verbosity = level; }
int Verbosity() { return verbosity.load(std::memory_order_relaxed); }
void SetLogPrefix(std::string prefix) { Prefix() = std::move(prefix); }

void ApplyLogOptions(const LogOptions& options) {
  json = options.json;
  SetVerbosity(options.verbosity);
}

std::string LogText(std::string_view text, size_t max_bytes) {
  const bool cut = text.size() > max_bytes;
  if (cut) text = text.substr(0, max_bytes);
  return absl::StrCat("\"", absl::CHexEscape(ToAbsl(text)), cut ? "..." : "", "\"");
}

namespace log_internal {

bool ShouldLog(LogSeverity severity) {
  return static_cast<int>(severity) >= min_severity.load(std::memory_order_relaxed);
}

LogMessage::LogMessage(LogSeverity severity, const char* file, int line)
    : severity_(severity), file_(file), line_(line) {}

LogMessage::~LogMessage() {
  const std::optional<int64_t> suppressed = TakeTurn(severity_, file_, line_);
  if (!suppressed.has_value()) return;
  if (*suppressed > 0) stream_ << " suppressed=" << *suppressed;
  const LogEntry entry{.severity = severity_,
                       .time = Timestamp(),
                       .pid = getpid(),
                       .file = BaseName(file_),
                       .line = line_,
                       .prefix = Prefix(),
                       .message = stream_.str()};
  WriteAll(json ? FormatJson(entry) : FormatText(entry));
  if (severity_ == LogSeverity::kFatal) std::abort();
}

}  // namespace log_internal
}  // namespace krait
