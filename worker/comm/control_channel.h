#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "common/bounded_queue.h"

namespace krait {

// Carries what the deciding thread wants done to every rank of this process, in order: each rank
// has a queue of its own, so a slow one never lets a peer read past it. Host memory only; tensors
// travel by Communicator. One sender, one receiver a rank.
template <typename Message>
class ControlChannel {
 public:
  // At most `capacity` messages wait for a rank.
  ControlChannel(int num_ranks, size_t capacity) {
    for (int r = 0; r < num_ranks; ++r) {
      queues_.push_back(std::make_unique<BoundedQueue<std::shared_ptr<const Message>>>(capacity));
    }
  }

  // Waits for room at every rank. False if the channel is or becomes closed; then some ranks may
  // have the message and others not.
  bool Broadcast(const std::shared_ptr<const Message>& message) {
    for (auto& queue : queues_) {
      if (!queue->Push(std::shared_ptr<const Message>(message))) return false;
    }
    return true;
  }

  // Waits for the next message to `rank`. Null once the channel is closed and drained.
  std::shared_ptr<const Message> Receive(int rank) {
    std::optional<std::shared_ptr<const Message>> message = queues_[rank]->Pop();
    return message.has_value() ? *std::move(message) : nullptr;
  }

  // Any thread. Idempotent.
  void Close() {
    for (auto& queue : queues_) queue->Close();
  }

 private:
  std::vector<std::unique_ptr<BoundedQueue<std::shared_ptr<const Message>>>> queues_;
};

}  // namespace krait
