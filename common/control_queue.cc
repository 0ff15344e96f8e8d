#include "common/control_queue.h"

#include <chrono>

namespace krait {

ControlQueue::ControlQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue)
    : queue_(std::move(queue)) {
  thread_ = std::thread([this] { Run(); });
}

ControlQueue::~ControlQueue() {
  // The thread closes the queue itself, so that it never accepts a call on a closed one.
  close_.Set(queue_.get(), std::chrono::system_clock::now(), nullptr);
  thread_.join();
}

void ControlQueue::Run() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) {
    if (tag != nullptr) {
      static_cast<Event*>(tag)->Happen(ok);
    } else {
      closing_ = true;
      queue_->Shutdown();
    }
  }
}

}  // namespace krait
