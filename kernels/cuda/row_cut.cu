// Where top_k and top_p cut a row: a block a row. Every key (logit, place) is its own; the key sought
// is narrowed down by sums over 1,024 equal ranges of keys at a time, which are integers and so the
// same in any order. Three or four passes over the row as a rule, seven at most.

#include "kernels/cuda/row_cut.cuh"

#include <cub/block/block_scan.cuh>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {
namespace {

constexpr int kCutThreads = 1024;
constexpr int kRangeBits = 10;
constexpr int kRanges = 1 << kRangeBits;  // a thread each
static_assert(kRanges == kCutThreads);

// Sums over ranges of keys. Shared memory adds 32 bits at a time: a mass is three numbers of 14,
// whose sums over kMaxFilteredRow entries fit.
constexpr int kMassParts = 3, kPartBits = 14;
struct RangeSums {
  uint32_t count[kRanges];
  uint32_t mass[kMassParts][kRanges];

  __device__ void Clear() {
    count[threadIdx.x] = 0;
    for (int part = 0; part < kMassParts; ++part) mass[part][threadIdx.x] = 0;
  }
  __device__ void AddMass(int range, uint64_t value) {
    for (int part = 0; part < kMassParts; ++part) {
      const uint32_t bits = static_cast<uint32_t>(value >> part * kPartBits) & ((1 << kPartBits) - 1);
      if (bits != 0) atomicAdd(&mass[part][range], bits);
    }
  }
  __device__ uint64_t MassOfRange(int range) const {
    uint64_t sum = 0;
    for (int part = 0; part < kMassParts; ++part) {
      sum += uint64_t{mass[part][range]} << part * kPartBits;
    }
    return sum;
  }
};

struct Row {
  const float* logits;
  int64_t n;
  float max, temperature, min_z;

  __device__ bool AboveMinZ(float logit) const {
    return isinf(min_z) || !((logit - max) / temperature < min_z);
  }
};

using Scan = cub::BlockScan<uint64_t, kCutThreads>;

struct Shared {
  RangeSums sums;
  Scan::TempStorage scan;
  uint64_t total;
  // Of the range in which the sum reaches what is sought, if any does.
  int range;
  uint64_t above, weight;
};

// What is sought: keys that weigh so much, counted or by mass.
struct Weight {
  bool by_mass;
  uint64_t target;  // of a mass: the share of all, in 2^-32
};

__device__ uint64_t TargetOf(const Weight& weight, uint64_t total) {
  if (!weight.by_mass) return weight.target;
  const uint64_t high = __umul64hi(total, weight.target), low = total * weight.target;
  return max(uint64_t{1}, high << 32 | low >> 32);
}

__device__ void SumRanges(const Row& row, uint64_t low, uint64_t high, int shift, bool by_mass,
                          RangeSums& sums) {
  sums.Clear();
  __syncthreads();
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < row.n; i += kCutThreads) {
    const float logit = row.logits[i];
    const uint64_t key = KeyOf(logit, i);
    if (key < low || key > high || !row.AboveMinZ(logit)) continue;
    const int range = static_cast<int>((key - low) >> shift);
    atomicAdd(&sums.count[range], 1);
    if (by_mass) sums.AddMass(range, MassOf(logit, row.max, row.temperature));
  }
  __syncthreads();
}

// The key from which on those of at least `floor` weigh just enough; `floor` if all weigh less.
__device__ uint64_t FindCut(const Row& row, uint64_t floor, const Weight& weight, Shared& shared) {
  uint64_t low = floor, high = KeyOf(row.max, 0), above = 0, target = 0;
  for (bool first = true;; first = false) {
    const int shift = max(0, 64 - __clzll(static_cast<long long>(high - low)) - kRangeBits);
    SumRanges(row, low, high, shift, weight.by_mass, shared.sums);
    // Ranges from the largest keys down, a thread each.
    const int range = kRanges - 1 - threadIdx.x;
    const uint64_t own =
        weight.by_mass ? shared.sums.MassOfRange(range) : uint64_t{shared.sums.count[range]};
    uint64_t before = 0, total = 0;
    Scan(shared.scan).ExclusiveSum(own, before, total);
    if (first) target = TargetOf(weight, total);
    if (threadIdx.x == 0) shared.range = -1;
    __syncthreads();
    if (above + before < target && above + before + own >= target) {
      shared.range = range;
      shared.above = above + before;
      shared.weight = own;
    }
    __syncthreads();
    if (shared.range < 0) return floor;
    above = shared.above;
    const bool one = shared.sums.count[shared.range] == 1, whole = above + shared.weight == target;
    low += static_cast<uint64_t>(shared.range) << shift;
    high = min(high, low + (uint64_t{1} << shift) - 1);
    if (shift == 0 || one || whole) return low;
    __syncthreads();  // the sums are about to be cleared
  }
}

__global__ void __launch_bounds__(kCutThreads)
    FindCuts(LogitRows rows, const DrawChoice* choices, RowPieces pieces, uint64_t* cuts) {
  const int r = blockIdx.x;
  const DrawChoice choice = choices[r];
  if (choice.drawn == 0 || choice.temperature == 0 || !choice.filtered()) return;
  const PieceMax all = RowMaxOf(pieces, r);
  if (all.infinite != 0) return;
  __shared__ Shared shared;
  const Row row = {rows.row(r), rows.n, FromOrderedBits(all.max), choice.temperature, choice.min_z};
  uint64_t cut = 0;
  if (choice.top_k > 0) {
    cut = FindCut(row, cut, {false, static_cast<uint64_t>(choice.top_k)}, shared);
    __syncthreads();
  }
  if (choice.top_p < kWholeMass) cut = FindCut(row, cut, {true, choice.top_p}, shared);
  if (threadIdx.x == 0) cuts[r] = cut;
}

}  // namespace

void RunRowCuts(const CudaContext& context, const LogitRows& rows, const DrawChoice* choices,
                int64_t num_rows, const RowPieces& pieces, uint64_t* cuts) {
  CHECK_LE(rows.n, kMaxFilteredRow);
  FindCuts<<<static_cast<unsigned>(num_rows), kCutThreads, 0, context.stream>>>(rows, choices,
                                                                                pieces, cuts);
  KRAIT_CHECK_LAUNCH("RowCuts");
}

}  // namespace krait::kernels
