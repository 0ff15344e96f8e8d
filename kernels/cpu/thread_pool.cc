#include "kernels/cpu/thread_pool.h"

#include "common/logging.h"

namespace krait::kernels {
namespace {

// How often a waiting thread looks before it blocks: some 10 us. A step of decoding has 150 runs, and
// to wake a blocked thread takes longer than many of them last. An idle engine blocks.
constexpr int kSpins = 500;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <typename Predicate>
void SpinUntil(Predicate done) {
  for (int i = 0; i < kSpins && !done(); ++i) Pause();
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  CHECK_GE(num_threads, 1);
  for (int thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(absl::FunctionRef<void(int)> body) {
  if (workers_.empty()) return body(0);
  body_ = &body;
  running_.store(static_cast<int32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  body(0);
  AwaitDone();
}

void ThreadPool::ForEach(int64_t num_tasks, absl::FunctionRef<void(int64_t)> body) {
  if (workers_.empty() || num_tasks == 1) {
    for (int64_t task = 0; task < num_tasks; ++task) body(task);
    return;
  }
  std::atomic<int64_t> next{0};
  Run([&](int) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < num_tasks;) {
      body(task);
    }
  });
}

void ThreadPool::WorkerLoop(int thread) {
  for (uint32_t seen = 0;; ++seen) {
    AwaitStart(seen);
    if (stop_) return;
    (*body_)(thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void ThreadPool::AwaitStart(uint32_t seen) const {
  SpinUntil([&] { return generation_.load(std::memory_order_acquire) != seen; });
  while (generation_.load(std::memory_order_acquire) == seen) {
    generation_.wait(seen, std::memory_order_acquire);
  }
}

void ThreadPool::AwaitDone() const {
  SpinUntil([&] { return running_.load(std::memory_order_acquire) == 0; });
  for (int32_t running; (running = running_.load(std::memory_order_acquire)) != 0;) {
    running_.wait(running, std::memory_order_acquire);
  }
}

}  // namespace krait::kernels
