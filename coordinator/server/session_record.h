#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/server/prepared_request.h"
#include "coordinator/server/response_assembler.h"
#include "coordinator/server/session_context.h"

namespace krait {

// What metrics and the log learn of one stream. Not thread-safe: its session's lock protects it.
class SessionRecord {
 public:
  SessionRecord(const SessionContext& context, std::string trace_id)
      : context_(context), trace_id_(std::move(trace_id)), arrival_(context.clock.Now()) {}

  absl::Duration arrival() const { return arrival_; }

  // A worker was found for it, the `attempt`-th.
  void OnPlaced(int attempt) const;
  // `count` more tokens of `choice`, which `delivered` already counts.
  void OnTokens(const ResponseAssembler& delivered, int choice, int count);
  void OnLoss(const PreparedRequest& request, const WorkerKey& worker, int attempt, int num_tokens,
              const absl::Status& status) const;
  void OnSlowClient(const PreparedRequest& request) const;
  // Once, last. `last`: the response that was written last.
  void OnEnd(const PreparedRequest& request, const absl::Status& status, int num_tokens,
             int attempts, const v1::GenerateResponse& last) const;

 private:
  std::string Name(const PreparedRequest& request) const;

  const SessionContext& context_;
  const std::string trace_id_;  // of the client's traceparent header; empty: none
  const absl::Duration arrival_;
  std::vector<absl::Duration> last_token_;  // by choice
};

}  // namespace krait
