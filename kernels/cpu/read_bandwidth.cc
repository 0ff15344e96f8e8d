#include "kernels/cpu/read_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/read_bandwidth.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// The sum of all words, so that no load can be left out.
uint32_t ReadAll(const uint32_t* words, int64_t n) {
  constexpr int kStreams = 8;
  U32 sums[kStreams];
  for (U32& sum : sums) sum = SetU32(0);
  for (int64_t i = 0; i < n; i += kStreams * kLanes) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) sums[s] = Add(sums[s], Load(words + i + s * kLanes));
  }
  for (int s = 1; s < kStreams; ++s) sums[0] = Add(sums[0], sums[s]);
  uint32_t lanes[kLanes], total = 0;
  Store(sums[0], lanes);
  for (uint32_t lane : lanes) total += lane;
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

constexpr int64_t kBytes = int64_t{512} << 20;
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int kPasses = 8;

}  // namespace

double MeasureReadBandwidth(int num_threads) {
  const AlignedBuffer buffer = AllocateAligned(kBytes);
  if (buffer == nullptr) return 0;
  ThreadPool pool(num_threads);
  const auto read = KRAIT_PICK(TargetFromName(""), ReadAll);
  std::atomic<uint32_t> sink{0};
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.ForEach(kBytes / kPieceBytes, [&](int64_t piece) {
      const auto* words = reinterpret_cast<const uint32_t*>(buffer.get() + piece * kPieceBytes);
      sink.fetch_add(read(words, kPieceBytes / 4), std::memory_order_relaxed);
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kBytes) / seconds.count());
  }
  return best;
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
