#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "krait/v1/cluster.pb.h"

namespace krait {

enum class Method { kGenerate, kTokenize, kDetokenize, kGetModelInfo };
enum class Rejection {
  kMaxRequests,
  kTokenBudget,
  kMaxQueued,
  kQueueTimeout,
  kDeadline,     // it would have waited longer than its client does
  kWorkersFull,  // every ready worker has all that it runs and queues
  kDraining
};

// Every metric of the coordinator. All series exist at 0 from the start; labels come from closed
// sets. What clients see (times, codes) is counted here, what engines do is the workers'. Members
// are thread-safe.
struct CoordinatorMetrics {
  explicit CoordinatorMetrics(Metrics& metrics);

  // By gRPC method and final status code, and by why a stream ended well.
  void CountRequest(Method method, absl::StatusCode code);
  prometheus::Counter& rejected(Rejection reason);
  prometheus::Counter& success(bool stopped);  // finished_reason: stop, else length
  prometheus::Gauge& workers(v1::WorkerRole role, v1::WorkerState state);

  prometheus::Gauge& running;  // streams on a worker
  prometheus::Gauge& waiting;  // streams admitted that wait for one
  prometheus::Gauge& tokens_in_flight;
  prometheus::Gauge& token_budget;
  prometheus::Gauge& targets_with_draft;

  prometheus::Histogram& time_to_first_token;
  prometheus::Histogram& inter_token_latency;
  prometheus::Histogram& e2e_latency;
  prometheus::Histogram& queue_time;
  prometheus::Histogram& prompt_tokens;
  prometheus::Histogram& generation_tokens;

  prometheus::Counter& retries;           // a stream was placed again on another worker
  prometheus::Counter& retries_denied;    // the retry budget was spent
  prometheus::Counter& slow_clients;      // streams ended because their client did not read
  prometheus::Counter& streams_broken;    // a worker was lost after the first token
  prometheus::Counter& duplicate_tokens;  // dropped: a worker sent them twice
  prometheus::Counter& registrations_accepted;
  prometheus::Counter& registrations_refused;
  prometheus::Counter& leases_expired;
  prometheus::Gauge& draining;
  prometheus::Gauge& ready;

 private:
  std::map<std::pair<Method, int>, prometheus::Counter*> requests_;
  std::map<Rejection, prometheus::Counter*> rejected_;
  std::map<bool, prometheus::Counter*> success_;
  std::map<std::pair<int, int>, prometheus::Gauge*> workers_;
};

}  // namespace krait
