// The k largest logits of a row, ties to the lower id: logit and place make one number, and CUB's
// radix sort puts a row of them in order.

#include <cub/device/device_radix_sort.cuh>
#include <limits>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/logits_row.cuh"

namespace krait::kernels {
namespace {

// Rising keys are falling logits, then rising places. NaN ranks last, as -infinity; -0 is +0.
__global__ void MakeKeys(const float* logits, int64_t n, uint64_t* keys) {
  const int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i >= n) return;
  float logit = logits[i];
  if (isnan(logit)) logit = -INFINITY;
  if (logit == 0) logit = 0;
  keys[i] = uint64_t{~OrderedBits(logit)} << 32 | static_cast<uint32_t>(i);
}

// Place and logit of the first k keys.
__global__ void ReadKeys(const uint64_t* keys, const float* logits, int64_t k, Candidate* out) {
  const int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i >= k) return;
  const auto place = static_cast<uint32_t>(keys[i]);
  const float logit = logits[place];
  out[i] = {isnan(logit) ? -INFINITY : logit, static_cast<TokenId>(place)};
}

unsigned BlocksFor(int64_t count) {
  return static_cast<unsigned>((count + kRowThreads - 1) / kRowThreads);
}

std::vector<Candidate> TopOf(const CudaContext& context, const LogitsShard& shard, int64_t k) {
  const auto n = static_cast<int>(shard.n);
  size_t sort_bytes = 0;
  KRAIT_CUDA_CHECK(cub::DeviceRadixSort::SortKeys(nullptr, sort_bytes, (const uint64_t*)nullptr,
                                                  (uint64_t*)nullptr, n));
  const int64_t sort_words = static_cast<int64_t>(sort_bytes + 7) / 8;
  auto* keys = context.workspace->Get<uint64_t>(2 * int64_t{n} + k + sort_words);
  uint64_t* sorted = keys + n;
  auto* top = reinterpret_cast<Candidate*>(sorted + n);
  uint64_t* sort_memory = sorted + n + k;
  static_assert(sizeof(Candidate) == sizeof(uint64_t));
  MakeKeys<<<BlocksFor(n), kRowThreads, 0, context.stream>>>(shard.logits, n, keys);
  KRAIT_CUDA_CHECK(cub::DeviceRadixSort::SortKeys(sort_memory, sort_bytes, keys, sorted, n, 0, 64,
                                                  context.stream));
  ReadKeys<<<BlocksFor(k), kRowThreads, 0, context.stream>>>(sorted, shard.logits, k, top);
  KRAIT_CHECK_LAUNCH("TopCandidates");
  std::vector<Candidate> candidates(k);
  context.link->Download(top, candidates.data(), k * sizeof(Candidate));
  for (Candidate& candidate : candidates) {
    candidate.id = shard.ids ? shard.ids[candidate.id] : shard.first_id + candidate.id;
  }
  return candidates;
}

}  // namespace

void RunTopCandidates(const CudaContext& context, absl::Span<const TopRow> rows,
                      absl::Span<std::vector<Candidate>> out) {
  CHECK_EQ(rows.size(), out.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t k = std::min<int64_t>(rows[i].k, rows[i].shard.n);
    out[i] = k <= 0 ? std::vector<Candidate>() : TopOf(context, rows[i].shard, k);
  }
}

}  // namespace krait::kernels
