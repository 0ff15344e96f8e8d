#include "kernels/cpu/read_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

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

constexpr int64_t kPieceBytes = int64_t{1} << 20;

// All bits in use: pages of one repeated word might be stored cleverly by a host.
std::byte* FilledBuffer(WeightArena& arena, int64_t num_bytes) {
  std::byte* data = arena.Allocate(num_bytes);
  if (data == nullptr) return nullptr;
  auto* words = reinterpret_cast<uint32_t*>(data);
  for (int64_t i = 0; i < num_bytes / 4; ++i) words[i] = static_cast<uint32_t>(i) * 2654435761u;
  return data;
}

}  // namespace

ReadBandwidth::ReadBandwidth(int num_threads, int64_t num_bytes)
    : pool_(num_threads),
      num_pieces_((num_bytes + kPieceBytes - 1) / kPieceBytes),
      data_(FilledBuffer(arena_, num_pieces_ * kPieceBytes)) {}

double ReadBandwidth::Pass() {
  if (data_ == nullptr) return 0;
  const auto read = KRAIT_PICK(TargetFromName(""), ReadAll);
  std::atomic<uint32_t> sink{0};
  const auto start = std::chrono::steady_clock::now();
  pool_.ForEach(num_pieces_, [&](int64_t piece) {
    const auto* words = reinterpret_cast<const uint32_t*>(data_ + piece * kPieceBytes);
    sink.fetch_add(read(words, kPieceBytes / 4), std::memory_order_relaxed);
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(num_pieces_ * kPieceBytes) / seconds.count();
}

double MeasureReadBandwidth(int num_threads) {
  constexpr int64_t kBytes = int64_t{512} << 20;
  constexpr int kPasses = 8;
  ReadBandwidth bandwidth(num_threads, kBytes);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) best = std::max(best, bandwidth.Pass());
  return best;
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
