#include "worker/comm/patience.h"

#include <thread>

#include "absl/time/clock.h"

namespace krait {
namespace {

constexpr absl::Duration kEager = absl::Milliseconds(20);  // longer than most decoding steps
constexpr absl::Duration kNap = absl::Microseconds(100);

}  // namespace

Patience::Patience(absl::Duration limit) : start_(clock_.Now()), limit_(limit) {}

bool Patience::Pause() {
  const absl::Duration waited = clock_.Now() - start_;
  if (waited > limit_) return false;
  if (waited < kEager) {
    std::this_thread::yield();
  } else {
    absl::SleepFor(kNap);
  }
  return true;
}

}  // namespace krait
