#pragma once

#include <algorithm>

#include "absl/time/time.h"

namespace krait {

// How long to wait before a process that died is started again: doubles from 200 ms to 5 s, and
// starts over after a life of 10 s. Pure.
class RestartBackoff {
 public:
  static constexpr absl::Duration kFirst = absl::Milliseconds(200);
  static constexpr absl::Duration kLargest = absl::Seconds(5);
  static constexpr absl::Duration kHealthyLife = absl::Seconds(10);

  // The wait after a process that lived for `life`.
  absl::Duration OnDeath(absl::Duration life) {
    if (life >= kHealthyLife) next_ = kFirst;
    const absl::Duration wait = next_;
    next_ = std::min(2 * next_, kLargest);
    return wait;
  }

 private:
  absl::Duration next_ = kFirst;
};

}  // namespace krait
