#pragma once

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/server/generation_session.h"

namespace krait {

// The sessions that gRPC still refers to; owns them. Thread-safe.
class SessionTable {
 public:
  // Under a number of its own: a request id may be refused as a duplicate and still needs a session
  // to say so.
  void Insert(int64_t number, std::shared_ptr<GenerationSession> session);
  void Erase(int64_t number);

  // Pokes those whose next look is due at `now`.
  void PokeDue(absl::Duration now);
  void EndAll(const absl::Status& status);
  // True once it is empty; waits at most `timeout`.
  bool WaitEmpty(absl::Duration timeout);
  int size() const;

 private:
  std::vector<std::shared_ptr<GenerationSession>> All() const;
  bool Empty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return sessions_.empty(); }

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<int64_t, std::shared_ptr<GenerationSession>> sessions_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
