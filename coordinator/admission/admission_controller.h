#pragma once

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace krait {

class AdmissionController;

// One admitted request's share; gives it back when it goes out of scope. Not thread-safe.
class AdmissionTicket {
 public:
  AdmissionTicket() = default;
  AdmissionTicket(AdmissionTicket&& other) noexcept { *this = std::move(other); }
  AdmissionTicket& operator=(AdmissionTicket&& other) noexcept;
  ~AdmissionTicket() { Release(); }

  // The request begins to wait for a worker. RESOURCE_EXHAUSTED if the queue is full.
  absl::Status EnterQueue();
  // It has one. No effect if it was not queued.
  void LeaveQueue();
  void Release();

 private:
  friend class AdmissionController;
  AdmissionTicket(AdmissionController* controller, int64_t tokens)
      : controller_(controller), tokens_(tokens) {}

  AdmissionController* controller_ = nullptr;
  int64_t tokens_ = 0;
  bool queued_ = false;
};

// Bounds what the coordinator takes on: requests, those of them that wait for a worker, and the sum
// of prompt + max_tokens. Says no at once; waiting belongs to the client. Thread-safe; outlives its
// tickets.
class AdmissionController {
 public:
  struct Options {
    int max_requests = 1024;
    int max_queued = 256;
    int64_t token_budget = 1'000'000;
  };
  struct Load {
    int requests = 0;
    int queued = 0;
    int64_t tokens = 0;
  };
  enum class Refusal { kRequests, kTokens, kQueue };

  explicit AdmissionController(const Options& options) : options_(options) {}

  // RESOURCE_EXHAUSTED names the limit; `*refusal` says which. `tokens`: prompt + max_tokens. A
  // request alone is admitted even above the budget: it could never run otherwise.
  absl::StatusOr<AdmissionTicket> Admit(int64_t tokens, Refusal* refusal);

  // What Admit would say of max_requests.
  absl::Status CheckRoom() const;

  Load load() const;
  const Options& options() const { return options_; }

 private:
  friend class AdmissionTicket;
  absl::Status CheckRequests() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Enqueue();
  void Dequeue();
  void GiveBack(int64_t tokens);

  const Options options_;
  mutable absl::Mutex mutex_;
  Load load_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
