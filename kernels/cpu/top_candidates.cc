// The k largest logits of a row, ties to the lower id. Small k: a heap of the best so far, whose
// worst is compared with eight logits at a time. Large k: selection over the whole row.

#include <algorithm>
#include <limits>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/top_candidates.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// First index >= `begin`, a multiple of 8 after it, from which eight logits hold one above `limit`;
// or the first from which there are no eight.
int64_t SkipUpTo(const float* logits, int64_t begin, int64_t n, float limit) {
  const F32 limits = SetF32(limit);
  int64_t i = begin;
  while (i + kLanes <= n && !AnyGreater(Load(logits + i), limits)) i += kLanes;
  return i;
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

constexpr int64_t kMaxHeap = 1024;
constexpr int64_t kStep = 8;

bool Better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// A NaN would break the order; such a row is refused by its finite flag, here it only ranks last.
Candidate At(const LogitsShard& shard, int64_t i) {
  const float logit = shard.logits[i];
  const TokenId id = shard.ids ? shard.ids[i] : shard.first_id + static_cast<TokenId>(i);
  return {logit == logit ? logit : -std::numeric_limits<float>::infinity(), id};
}

// The k best of a whole row by selection, k <= n.
std::vector<Candidate> Select(const LogitsShard& shard, int64_t k) {
  std::vector<Candidate> all;
  all.reserve(shard.n);
  for (int64_t i = 0; i < shard.n; ++i) all.push_back(At(shard, i));
  if (k < shard.n) std::nth_element(all.begin(), all.begin() + k, all.end(), Better);
  all.resize(k);
  std::sort(all.begin(), all.end(), Better);
  return all;
}

// Ids rise along the row, so a logit that only equals the worst kept never replaces it.
std::vector<Candidate> SelectByHeap(Target target, const LogitsShard& shard, int64_t k) {
  const auto skip = KRAIT_PICK(target, SkipUpTo);
  std::vector<Candidate> heap = Select({shard.logits, k, shard.first_id, shard.ids}, k);
  std::make_heap(heap.begin(), heap.end(), Better);  // the worst in front
  for (int64_t i = k; i < shard.n;) {
    i = skip(shard.logits, i, shard.n, heap.front().logit);
    for (const int64_t end = std::min(i + kStep, shard.n); i < end; ++i) {
      if (!Better(At(shard, i), heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end(), Better);
      heap.back() = At(shard, i);
      std::push_heap(heap.begin(), heap.end(), Better);
    }
  }
  std::sort(heap.begin(), heap.end(), Better);
  return heap;
}

}  // namespace

void RunTopCandidates(const CpuContext& context, absl::Span<const TopRow> rows,
                      absl::Span<std::vector<Candidate>> out) {
  CHECK_EQ(rows.size(), out.size());
  context.pool->ForEach(rows.size(), [&](int64_t i) {
    const LogitsShard& shard = rows[i].shard;
    const int64_t k = std::min<int64_t>(rows[i].k, shard.n);
    if (k <= 0) {
      out[i].clear();
    } else if (k <= kMaxHeap && k < shard.n) {
      out[i] = SelectByHeap(context.target, shard, k);
    } else {
      out[i] = Select(shard, k);
    }
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
