#pragma once

// Rows of logits for kernels, and results that any order of threads gives.

#include <cstdint>
#include <vector>

#include "common/fast_math.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"

namespace krait::kernels {

// A float as an unsigned number of the same order; NaN is not ordered. -0 comes below +0.
__device__ inline uint32_t OrderedBits(float value) {
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float FromOrderedBits(uint32_t bits) {
  return __uint_as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}

// round(e^((l - max) / T) 2^40), in what atomicAdd takes. A product with a power of two and a
// float's sum with 1/2 are exact in double.
__device__ inline unsigned long long MassOf(float logit, float max, float temperature) {
  const float e = fast_math::Exp((logit - max) / temperature);
  return static_cast<unsigned long long>(double{e} * 0x1p40 + 0.5);
}

// Logits that a block looks at, and threads of it.
inline constexpr int kRowThreads = 256;
inline constexpr int64_t kRowPiece = 4096;

inline dim3 PieceGrid(int64_t longest, size_t num_rows) {
  return dim3(static_cast<unsigned>((longest + kRowPiece - 1) / kRowPiece),
              static_cast<unsigned>(num_rows));
}

template <typename Rows>
int64_t LongestRow(const Rows& rows) {
  int64_t longest = 1;
  for (const auto& row : rows) longest = row.shard.n > longest ? row.shard.n : longest;
  return longest;
}

// Calls body(i) for every logit of this block's piece of a row of n.
template <typename Body>
__device__ void ForPiece(int64_t n, const Body& body) {
  const int64_t begin = blockIdx.x * kRowPiece, end = min(begin + kRowPiece, n);
  for (int64_t i = begin + threadIdx.x; i < end; i += kRowThreads) body(i);
}

// Host items in device memory, results behind them: one upload, one download.
template <typename Item, typename Result>
class RowExchange {
 public:
  RowExchange(const CudaContext& context, const std::vector<Item>& items) : context_(context) {
    const size_t item_bytes = (items.size() * sizeof(Item) + 255) / 256 * 256;
    auto* memory =
        context.workspace->Get<std::byte>(static_cast<int64_t>(item_bytes + items.size() * 256));
    items_ = reinterpret_cast<Item*>(memory);
    results_ = reinterpret_cast<Result*>(memory + item_bytes);
    static_assert(sizeof(Result) <= 256);
    count_ = items.size();
    context.link->Upload(items.data(), items_, items.size() * sizeof(Item));
    KRAIT_CUDA_CHECK(cudaMemsetAsync(results_, 0, count_ * sizeof(Result), context.stream));
  }
  const Item* items() const { return items_; }
  Result* results() const { return results_; }
  std::vector<Result> Download() const {
    std::vector<Result> results(count_);
    context_.link->Download(results_, results.data(), count_ * sizeof(Result));
    return results;
  }

 private:
  const CudaContext& context_;
  Item* items_ = nullptr;
  Result* results_ = nullptr;
  size_t count_ = 0;
};

}  // namespace krait::kernels
