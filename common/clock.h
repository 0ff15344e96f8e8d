#pragma once

#include <ctime>

#include "absl/time/time.h"

namespace krait {

// Monotonic time since an arbitrary start. No decision reads the wall clock: durations and
// deadlines are differences of Now(). Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Duration Now() const = 0;
};

// CLOCK_MONOTONIC.
class RealClock final : public Clock {
 public:
  absl::Duration Now() const override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return absl::DurationFromTimespec(now);
  }
};

}  // namespace krait
