#pragma once

// LOG, CHECK and VLOG with absl/log's names (the toolchain's Abseil has none). One line an entry on
// standard error:
//
//   I 2026-11-23T12:00:00.123456Z 1234 engine.cc:42] step_id=7 rows=5 msg="..."
//
// Messages are key=value; user text is passed through LogText(), which escapes and cuts it.
// Thread-safe: an entry is one write().

#include <sstream>
#include <string>
#include <string_view>

namespace krait {

enum class LogSeverity { kInfo, kWarning, kError, kFatal };

// Entries below this severity are dropped. Default kInfo. Set once in main.
void SetMinLogSeverity(LogSeverity severity);
// VLOG(n) prints when n <= verbosity. Default 0.
void SetVerbosity(int verbosity);
int Verbosity();
// Put in front of every line of this process, e.g. "role=draft". Set once in main.
void SetLogPrefix(std::string prefix);

// `text` in double quotes, with control characters, quotes, backslashes and non-ASCII bytes
// escaped, cut to `max_bytes` of input.
std::string LogText(std::string_view text, size_t max_bytes = 256);

namespace log_internal {

class LogMessage {
 public:
  LogMessage(LogSeverity severity, const char* file, int line);
  ~LogMessage();  // writes; aborts the process for kFatal
  LogMessage(const LogMessage&) = delete;
  std::ostream& stream() { return stream_; }

 private:
  const LogSeverity severity_;
  const char* const file_;
  const int line_;
  std::ostringstream stream_;
};

struct Voidify {
  void operator&(std::ostream&) {}
};

template <typename A, typename B>
std::string CheckText(const char* expression, const A& a, const B& b) {
  std::ostringstream out;
  out << "Check failed: " << expression << " (" << a << " vs. " << b << ") ";
  return out.str();
}

bool ShouldLog(LogSeverity severity);

}  // namespace log_internal
}  // namespace krait

#define KRAIT_LOG_SEVERITY_INFO ::krait::LogSeverity::kInfo
#define KRAIT_LOG_SEVERITY_WARNING ::krait::LogSeverity::kWarning
#define KRAIT_LOG_SEVERITY_ERROR ::krait::LogSeverity::kError
#define KRAIT_LOG_SEVERITY_FATAL ::krait::LogSeverity::kFatal

#define KRAIT_LOG_STREAM(severity) \
  ::krait::log_internal::LogMessage(severity, __FILE__, __LINE__).stream()

#define LOG(severity) LOG_IF(severity, true)
#define LOG_IF(severity, condition)                                                 \
  !((condition) && ::krait::log_internal::ShouldLog(KRAIT_LOG_SEVERITY_##severity)) \
      ? (void)0                                                                     \
      : ::krait::log_internal::Voidify() & KRAIT_LOG_STREAM(KRAIT_LOG_SEVERITY_##severity)
#define VLOG(level) LOG_IF(INFO, (level) <= ::krait::Verbosity())

#define CHECK(condition)                                                                          \
  (condition) ? (void)0                                                                           \
              : ::krait::log_internal::Voidify() & KRAIT_LOG_STREAM(::krait::LogSeverity::kFatal) \
                                                       << "Check failed: " #condition " "
#define KRAIT_CHECK_OP(op, a, b)                                  \
  ((a)op(b)) ? (void)0                                            \
             : ::krait::log_internal::Voidify() &                 \
                   KRAIT_LOG_STREAM(::krait::LogSeverity::kFatal) \
                       << ::krait::log_internal::CheckText(#a " " #op " " #b, (a), (b))
#define CHECK_EQ(a, b) KRAIT_CHECK_OP(==, a, b)
#define CHECK_NE(a, b) KRAIT_CHECK_OP(!=, a, b)
#define CHECK_LT(a, b) KRAIT_CHECK_OP(<, a, b)
#define CHECK_LE(a, b) KRAIT_CHECK_OP(<=, a, b)
#define CHECK_GT(a, b) KRAIT_CHECK_OP(>, a, b)
#define CHECK_GE(a, b) KRAIT_CHECK_OP(>=, a, b)
#define CHECK_OK(expression)                                           \
  do {                                                                 \
    const auto krait_check_status_ = (expression);                     \
    CHECK(krait_check_status_.ok()) << krait_check_status_.ToString(); \
  } while (false)

// A check of our own bookkeeping that is compiled in for tests and left out of releases.
#ifdef KRAIT_INVARIANTS
#define CHECK_INVARIANT(condition) CHECK(condition)
inline constexpr bool kInvariantsEnabled = true;
#else
#define CHECK_INVARIANT(condition) CHECK(true || (condition))
inline constexpr bool kInvariantsEnabled = false;
#endif
