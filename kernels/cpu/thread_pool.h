#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"

namespace krait::kernels {

// The caller plus `num_threads - 1` workers that run one function at a time together. Waiting
// threads look a few microseconds long, then block. Used by one thread at a time (the backend's).
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(thread) once for each thread in [0, num_threads), 0 on the caller; returns when all
  // have returned, and their writes are visible.
  void Run(absl::FunctionRef<void(int thread)> body);

  // Calls body(task) for every task in [0, num_tasks), each once, in any order and on any thread.
  void ForEach(int64_t num_tasks, absl::FunctionRef<void(int64_t task)> body);

 private:
  void WorkerLoop(int thread);
  void AwaitStart(uint32_t seen) const;
  void AwaitDone() const;

  std::vector<std::thread> workers_;
  // Raised by the caller to start a run; the stores before it publish body_ and stop_.
  std::atomic<uint32_t> generation_{0};
  // Workers that have not finished the current run.
  std::atomic<int32_t> running_{0};
  const absl::FunctionRef<void(int)>* body_ = nullptr;
  bool stop_ = false;
};

// [begin, end) of `n` items that share `index` of `count` owns: contiguous, sizes differ by at most
// one.
inline std::pair<int64_t, int64_t> Share(int64_t n, int64_t index, int64_t count) {
  return {n * index / count, n * (index + 1) / count};
}

}  // namespace krait::kernels
