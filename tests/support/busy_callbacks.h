#pragma once

#include <grpcpp/grpcpp.h>

#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "krait/v1/cluster.grpc.pb.h"

namespace krait {

// A service whose GetLoad does not return before Release: calls of it occupy the threads on which
// gRPC runs callbacks, all of them (2 to 16, by the number of cores).
class BusyCallbacks final : public v1::ClusterService::CallbackService {
 public:
  ~BusyCallbacks() override { Release(); }

  // Occupies the threads of the server at `address`, which serves this. False after 10 s.
  bool Occupy(const std::string& address) {
    for (int i = 0; i < kCalls; ++i) clients_.emplace_back([address] { Call(address); });
    absl::MutexLock lock(&mutex_);
    const auto busy = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return entered_ >= 2; };
    return mutex_.AwaitWithTimeout(absl::Condition(&busy), absl::Seconds(10));
  }

  // Before the server goes away; idempotent.
  void Release() {
    {
      absl::MutexLock lock(&mutex_);
      released_ = true;
    }
    for (std::thread& client : clients_) client.join();
    clients_.clear();
  }

 private:
  static constexpr int kCalls = 20;

  static void Call(const std::string& address) {
    grpc::ClientContext context;
    v1::GetLoadResponse response;
    v1::ClusterService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))
        ->GetLoad(&context, {}, &response);
  }

  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context, const v1::GetLoadRequest*,
                                    v1::GetLoadResponse*) override {
    {
      absl::MutexLock lock(&mutex_);
      ++entered_;
      mutex_.Await(absl::Condition(&released_));
    }
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  absl::Mutex mutex_;
  int entered_ ABSL_GUARDED_BY(mutex_) = 0;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> clients_;
};

}  // namespace krait
