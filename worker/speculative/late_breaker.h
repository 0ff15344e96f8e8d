#pragma once

#include <bit>
#include <cstdint>

#include "absl/time/time.h"

namespace krait {

// Stops asking a draft that keeps being late, because every wait in vain slows the target: after 3
// late rounds of the last 10 it opens for a second, then lets single rounds try. Plain state
// machine.
class LateBreaker {
 public:
  bool IsOpen(absl::Duration now) const { return now < open_until_; }

  void Record(bool late, absl::Duration now) {
    history_ = (history_ << 1 | (late ? 1u : 0u)) & ((1u << kRounds) - 1);
    if (late && std::popcount(history_) >= kMaxLate) open_until_ = now + absl::Seconds(1);
  }

  // Another draft: the past does not count.
  void Reset() { *this = LateBreaker(); }

 private:
  static constexpr int kRounds = 10;
  static constexpr int kMaxLate = 3;

  uint32_t history_ = 0;  // newest round in bit 0; set: late
  absl::Duration open_until_ = -absl::InfiniteDuration();
};

}  // namespace krait
