#pragma once

// The ranks of a tensor-parallel group inside one test: a backend and a communicator each, and a
// thread each for as long as a body runs.

#include <signal.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/logging.h"
#include "kernels/backend.h"
#include "tests/support/fake_nccl.h"
#include "worker/comm/gloo_communicator.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/peer_communicator.h"

namespace krait::testing {

// kNccl: over FakeNccl.
enum class Transport { kInProcess, kGloo, kPeer, kNccl };

class Ranks {
 public:
  explicit Ranks(int num_ranks, int threads_per_rank = 1,
                 Transport transport = Transport::kInProcess,
                 absl::Duration timeout = absl::Minutes(1)) {
    std::vector<Backend*> backends;
    for (int r = 0; r < num_ranks; ++r) {
      backends_.push_back(CreateCpuBackend({.index = r, .num_threads = threads_per_rank}));
      backends.push_back(backends_.back().get());
    }
    switch (transport) {
      case Transport::kInProcess:
        comms_ = CreateInProcessGroup(backends);
        break;
      case Transport::kGloo:
        ConnectGloo(backends, timeout);
        break;
      case Transport::kPeer:
        comms_ = *CreatePeerGroup(backends, timeout);
        break;
      case Transport::kNccl:
        ConnectNccl(backends, timeout);
        break;
    }
  }

  // Runs `body` once a rank, at the same time, and waits for all.
  void Run(const std::function<void(int rank)>& body) {
    std::vector<std::thread> threads;
    for (int r = 0; r < size(); ++r) threads.emplace_back([&body, r] { body(r); });
    for (std::thread& thread : threads) thread.join();
  }

  int size() const { return static_cast<int>(comms_.size()); }
  Backend* backend(int rank) { return backends_[rank].get(); }
  Communicator* comm(int rank) { return comms_[rank].get(); }
  // As if the rank's process had ended.
  void Destroy(int rank) { comms_[rank].reset(); }

 private:
  void ConnectGloo(const std::vector<Backend*>& backends, absl::Duration timeout) {
    const int size = static_cast<int>(backends.size());
    signal(SIGPIPE, SIG_IGN);  // as the processes do
    std::vector<std::unique_ptr<GlooEndpoint>> endpoints;
    for (int r = 0; r < size; ++r) {
      auto endpoint = GlooEndpoint::Listen({.rank = r, .size = size, .timeout = timeout});
      CHECK_OK(endpoint.status());
      endpoints.push_back(*std::move(endpoint));
    }
    comms_.resize(size);
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r) {
      threads.emplace_back([&, r] {
        std::vector<std::string> of_peers;
        for (const auto& endpoint : endpoints) of_peers.push_back(endpoint->addresses()[r]);
        auto comm = endpoints[r]->Connect(of_peers, backends[r]);
        CHECK_OK(comm.status());
        comms_[r] = *std::move(comm);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  void ConnectNccl(const std::vector<Backend*>& backends, absl::Duration timeout) {
    const std::string id = *NcclUniqueId(&nccl_);
    std::vector<std::unique_ptr<Communicator>> hosts = CreateInProcessGroup(backends);
    comms_.resize(backends.size());
    std::vector<std::thread> threads;
    for (int r = 0; r < size(); ++r) {
      threads.emplace_back([&, r] {
        auto comm = NcclCommunicator::Start(
            {.rank = r, .size = size(), .unique_id = id, .limits = {.wait = timeout}}, &nccl_,
            backends[r], std::move(hosts[r]));
        CHECK_OK(comm.status());
        CHECK_OK((*comm)->Await());
        comms_[r] = *std::move(comm);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  FakeNccl nccl_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<std::unique_ptr<Communicator>> comms_;
};

}  // namespace krait::testing
