#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "krait/v1/generation.grpc.pb.h"

namespace krait {

// The connections to a coordinator that a load's calls take in turns. Thread-safe.
class LoadConnections {
 public:
  // `window` > 0: how many bytes HTTP/2 may send ahead of what a call has read; a call that stalls
  // then closes its flow control after so many. 0: gRPC's, which grows.
  LoadConnections(const std::string& address, int count, int window = 0);

  // UNAVAILABLE, with the address, if one of them does not stand after `timeout`.
  absl::Status Connect(absl::Duration timeout);
  v1::GenerationService::Stub& Next() { return *stubs_[next_++ % stubs_.size()]; }

 private:
  const std::string address_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::vector<std::unique_ptr<v1::GenerationService::Stub>> stubs_;  // one a channel
  std::atomic<size_t> next_{0};
};

}  // namespace krait
