#include "coordinator/tools/load_generator.h"

#include "absl/time/clock.h"
#include "coordinator/tools/load_stream.h"

namespace krait {
namespace {

constexpr int64_t kDefaultRequests = 100;

}  // namespace

LoadGenerator::LoadGenerator(const LoadOptions& options, const Clock& clock)
    : options_(options), clock_(clock), connections_(options.coordinator, options.num_channels()) {}

void LoadGenerator::Run(RequestSource& source, LoadRecorder& recorder) {
  const absl::Duration begin = clock_.Now();
  if (options_.duration_s) end_ = begin + absl::Seconds(*options_.duration_s);
  recorder.OpenAt(begin + absl::Seconds(options_.warmup_s), end_);
  absl::Duration arrival = begin;
  for (int64_t i = 0; !Ended(i, options_.rate ? arrival : clock_.Now()); ++i) {
    if (options_.rate) AwaitTime(arrival);
    if (!AwaitSlot(options_.rate ? absl::InfiniteDuration() : end_)) break;
    const absl::Duration intended = options_.rate ? arrival : clock_.Now();
    LoadStream::Start(connections_.Next(), source.Next(), intended,
                      absl::Seconds(options_.timeout_s), clock_, recorder,
                      [this] { OnStreamDone(); });
    if (options_.rate) arrival += source.NextGap();
  }
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](int* num_open) { return *num_open == 0; }, &num_open_));
  recorder.CloseAt(clock_.Now());
}

bool LoadGenerator::Ended(int64_t num_started, absl::Duration time) const {
  if (time >= end_) return true;
  if (options_.requests) return num_started >= *options_.requests;
  return !options_.duration_s && num_started >= kDefaultRequests;
}

bool LoadGenerator::AwaitSlot(absl::Duration until) {
  absl::MutexLock lock(&mutex_);
  const auto has_slot = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return num_open_ < options_.open_limit();
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&has_slot), until - clock_.Now())) return false;
  ++num_open_;
  return true;
}

void LoadGenerator::AwaitTime(absl::Duration time) const {
  const absl::Duration left = time - clock_.Now();
  if (left > absl::ZeroDuration()) absl::SleepFor(left);
}

void LoadGenerator::OnStreamDone() {
  absl::MutexLock lock(&mutex_);
  --num_open_;
}

}  // namespace krait
