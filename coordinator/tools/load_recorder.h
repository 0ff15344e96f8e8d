#pragma once

#include <grpcpp/support/status.h>

#include <atomic>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/tools/latency_histogram.h"
#include "coordinator/tools/load_options.h"

namespace krait {

// What became of one stream. Times are those of one monotonic clock.
struct StreamResult {
  grpc::StatusCode code = grpc::StatusCode::OK;
  bool cancelled = false;   // by this client
  absl::Duration intended;  // when it was to start: latencies count from here
  absl::Duration started;   // when it did
  absl::Duration first;     // its first token; meaningless without tokens
  absl::Duration last;      // its last token
  absl::Duration ended;
  int64_t output_tokens = 0;
  int64_t prompt_tokens = 0;  // as the coordinator counted; known if it succeeded
};

// How many streams ended how.
struct LoadCounts {
  int64_t completed = 0;
  int64_t cancelled = 0;  // by this client
  int64_t rejected = 0;   // RESOURCE_EXHAUSTED before the first token
  int64_t failed = 0;     // everything else
  int64_t good = 0;       // completed within the SLOs
  int64_t prompt_tokens = 0;
  std::map<std::string, int64_t> errors;  // by code; rejects too, own cancels not
};

// Collects what the streams of a load see. Measured are requests whose intended start lies in
// [begin, end), and tokens that come in that time. Thread-safe.
class LoadRecorder {
 public:
  explicit LoadRecorder(const LoadOptions& options) : options_(options) {}

  // The window; before the first stream. `end` may be moved later, by CloseAt.
  void OpenAt(absl::Duration begin, absl::Duration end);
  // Ends the window at `end`, if it has not ended before.
  void CloseAt(absl::Duration end);

  // `tokens` more of a stream that is to be measured or not, `gap` after the last ones; the gap
  // before the first tokens is no inter-token latency.
  void OnTokens(const StreamResult& stream, int tokens, absl::Duration now);
  void OnDone(const StreamResult& stream);

  // Once all streams have ended.
  LoadCounts counts() const;
  double seconds() const { return absl::ToDoubleSeconds(end() - begin_); }
  int64_t tokens_in_window() const { return tokens_.load(std::memory_order_relaxed); }

  LatencyHistogram ttft;         // intended start to first token
  LatencyHistogram inter_token;  // between tokens; tokens of one message share its gap
  LatencyHistogram per_token;    // a request's mean time between tokens
  LatencyHistogram total;        // intended start to the end of a completed request
  LatencyHistogram reject;       // intended start to the refusal
  LatencyHistogram start_delay;  // intended to actual start: large if this client cannot keep up

 private:
  bool Measures(absl::Duration time) const { return time >= begin_ && time < end(); }
  absl::Duration end() const { return absl::Nanoseconds(end_ns_.load(std::memory_order_relaxed)); }
  bool IsGood(const StreamResult& stream) const;
  void Count(const StreamResult& stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const LoadOptions options_;
  absl::Duration begin_;  // constant after OpenAt
  std::atomic<int64_t> end_ns_{0};
  std::atomic<int64_t> tokens_{0};
  mutable absl::Mutex mutex_;
  LoadCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
