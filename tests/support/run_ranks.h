#pragma once

// The ranks of a tensor-parallel group inside one test: a backend and a communicator each, and a
// thread each for as long as a body runs.

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "worker/comm/in_process_communicator.h"

namespace krait::testing {

class Ranks {
 public:
  explicit Ranks(int num_ranks, int threads_per_rank = 1) {
    std::vector<Backend*> backends;
    for (int r = 0; r < num_ranks; ++r) {
      backends_.push_back(CreateCpuBackend({.index = r, .num_threads = threads_per_rank}));
      backends.push_back(backends_.back().get());
    }
    comms_ = CreateInProcessGroup(backends);
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

 private:
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<std::unique_ptr<Communicator>> comms_;
};

}  // namespace krait::testing
