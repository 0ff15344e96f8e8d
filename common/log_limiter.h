#pragma once

#include <map>
#include <optional>
#include <utility>

#include "absl/time/time.h"

namespace krait {

// How often one place in the source may write a log entry: `burst` at once, `rate` a second. Not
// thread-safe.
class LogLimiter {
 public:
  LogLimiter(int burst, int rate) : burst_(burst), rate_(rate) {}

  // Whether an entry of `file`:`line` may be written at `now` (monotonic): if so, the number of
  // those left out since the last one.
  std::optional<int64_t> Take(const char* file, int line, absl::Duration now) {
    const auto [it, fresh] = sites_.try_emplace({file, line}, Site{burst_, now, 0});
    Site& site = it->second;
    site.tokens += absl::ToDoubleSeconds(now - site.filled) * rate_;
    if (site.tokens > burst_) site.tokens = burst_;
    site.filled = now;
    if (site.tokens < 1) {
      ++site.suppressed;
      return std::nullopt;
    }
    site.tokens -= 1;
    return std::exchange(site.suppressed, 0);
  }

 private:
  struct Site {
    double tokens = 0;
    absl::Duration filled;
    int64_t suppressed = 0;
  };

  const double burst_;
  const double rate_;
  std::map<std::pair<const char*, int>, Site> sites_;  // by address: __FILE__ is one string a site
};

}  // namespace krait
