#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/tools/load_connections.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// What one stream is to do.
struct LoadPlan {
  v1::GenerateRequest request;
  absl::Duration deadline = absl::Seconds(60);
  int cancel_at_chunk = -1;  // cancel once so many chunks have come; 0: right after the start
  bool stall = false;        // read nothing until Release
  bool keep_ids = false;     // in LoadResult::token_ids
};

// What became of it.
struct LoadResult {
  grpc::Status status;
  int num_tokens = 0;
  bool in_order = true;  // no gap, no repeat
  absl::Time started;
  absl::Time first_token;  // infinite past: none came
  absl::Time ended;
  std::vector<int> token_ids;

  absl::Duration total() const { return ended - started; }
  absl::Duration to_first_token() const { return first_token - started; }
};

// Many streams at once from a few threads, over a fixed number of connections. Thread-safe.
class LoadClient {
 public:
  // `window`: LoadConnections'.
  LoadClient(const std::string& address, int num_connections, int window = 0);
  // Cancels what is open and waits for it.
  ~LoadClient();
  LoadClient(const LoadClient&) = delete;

  // `on_done` is called once, on one of gRPC's threads; it may call Start.
  void Start(LoadPlan plan, std::function<void(LoadResult)> on_done);
  // Stalled streams begin to read.
  void Release();
  void CancelAll();
  // False if streams are still open after `timeout`.
  bool WaitIdle(absl::Duration timeout);
  int num_open() const;
  int64_t num_tokens() const { return num_tokens_.load(std::memory_order_relaxed); }  // received

 private:
  class Stream;

  void OnDone(Stream* stream);

  LoadConnections connections_;
  std::atomic<int64_t> num_tokens_{0};
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<Stream*> open_ ABSL_GUARDED_BY(mutex_);
};

// The value below which `fraction` of `values` lie; zero if there are none.
absl::Duration Percentile(std::vector<absl::Duration> values, double fraction);

}  // namespace krait
