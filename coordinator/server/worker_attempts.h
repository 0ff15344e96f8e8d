#pragma once

#include <set>

#include "absl/status/status.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/server/session_context.h"

namespace krait {

// The workers that one request was given to, and whether it may be given to another. Not
// thread-safe: its session's lock protects it.
class WorkerAttempts {
 public:
  explicit WorkerAttempts(const SessionContext& context) : context_(context) {}

  // One more begins; returns its number, from 1 on.
  int Begin() { return ++count_; }
  // The current one lost `worker`, whose stream ended with `status` after `num_tokens` tokens
  // reached the client. OK: another worker may take the request; else how the client's stream ends.
  absl::Status OnLoss(const WorkerKey& worker, const absl::Status& status, int num_tokens);

  int count() const { return count_; }
  const std::set<WorkerKey>& tried() const { return tried_; }
  const absl::Status& last_loss() const { return last_loss_; }

 private:
  const SessionContext& context_;
  int count_ = 0;
  std::set<WorkerKey> tried_;
  absl::Status last_loss_;
};

}  // namespace krait
