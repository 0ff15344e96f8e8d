#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace krait {

// Asynchronous calls of one owner. gRPC's threads only report that a call is over; the owner
// destroys it. It must be so: a call's context keeps its channel alive, and gRPC 1.51 crashes now
// and then when the last channel of a process goes away on one of the threads that run callbacks
// (~Channel then joins the thread it runs on). Owner's thread only, but for the callbacks.
class PendingCalls {
 public:
  struct Call {
    virtual ~Call() = default;
    grpc::ClientContext context;
    grpc::Status status;  // valid once finished
    bool finished = false;
  };

  PendingCalls() : state_(std::make_shared<State>()) {}
  // Cancels what is under way and waits until it is over.
  ~PendingCalls() {
    for (const auto& call : calls_) call->context.TryCancel();
    for (const auto& call : calls_) Wait(*call, absl::InfiniteDuration());
  }
  PendingCalls(const PendingCalls&) = delete;

  // Takes the call; the result is for gRPC to call back, once.
  std::function<void(grpc::Status)> Add(std::unique_ptr<Call> call) {
    Call* const raw = call.get();
    calls_.push_back(std::move(call));
    return [state = state_, raw](grpc::Status status) {
      absl::MutexLock lock(&state->mutex);
      raw->status = std::move(status);
      raw->finished = true;
    };
  }

  // False if the call is still under way after `timeout`.
  bool Wait(const Call& call, absl::Duration timeout) const {
    absl::MutexLock lock(&state_->mutex);
    return state_->mutex.AwaitWithTimeout(absl::Condition(&call.finished), timeout);
  }

  // Removes the finished calls, in the order they were added.
  std::vector<std::unique_ptr<Call>> TakeFinished() {
    std::vector<std::unique_ptr<Call>> finished;
    std::vector<std::unique_ptr<Call>> others;
    absl::MutexLock lock(&state_->mutex);
    for (auto& call : calls_) (call->finished ? finished : others).push_back(std::move(call));
    calls_.swap(others);
    return finished;
  }

  size_t size() const { return calls_.size(); }

 private:
  // Outlives this while a callback is about to leave it.
  struct State {
    absl::Mutex mutex;  // guards status and finished of every call
  };

  const std::shared_ptr<State> state_;
  std::vector<std::unique_ptr<Call>> calls_;
};

}  // namespace krait
