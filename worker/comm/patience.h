#pragma once

#include "absl/time/time.h"
#include "common/clock.h"

namespace krait {

// A wait by asking again and again, with a limit. What is waited for is mostly there within
// milliseconds and on the path of a step, so it asks at once again at first, letting others run,
// and sleeps between later questions. One thread.
class Patience {
 public:
  explicit Patience(absl::Duration limit);
  // False once the limit is over.
  bool Pause();

 private:
  const RealClock clock_;
  const absl::Duration start_;
  const absl::Duration limit_;
};

}  // namespace krait
