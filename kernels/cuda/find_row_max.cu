// The largest logit of a row and whether all are finite. The maximum is the same in any order.

#include <cmath>
#include <limits>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/logits_row.cuh"

namespace krait::kernels {
namespace {

struct MaxItem {
  const float* logits;
  int64_t n;
};
struct MaxResult {
  uint32_t max;  // OrderedBits; 0: none
  uint32_t infinite;
};

__global__ void FindMax(const MaxItem* items, MaxResult* results) {
  const MaxItem item = items[blockIdx.y];
  uint32_t max = 0, infinite = 0;
  ForPiece(item.n, [&](int64_t i) {
    const float x = item.logits[i];
    infinite |= isfinite(x) ? 0 : 1;
    if (!isnan(x)) max = ::max(max, OrderedBits(x));
  });
  max = __reduce_max_sync(0xffffffffu, max);
  infinite = __reduce_or_sync(0xffffffffu, infinite);
  if (threadIdx.x % 32 != 0) return;
  atomicMax(&results[blockIdx.y].max, max);
  if (infinite != 0) atomicOr(&results[blockIdx.y].infinite, infinite);
}

float FloatOf(uint32_t ordered) {
  if (ordered == 0) return -std::numeric_limits<float>::infinity();
  return std::bit_cast<float>((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

}  // namespace

void RunFindRowMax(const CudaContext& context, absl::Span<const LogitsShard> rows,
                   absl::Span<RowMax> out) {
  CHECK_EQ(rows.size(), out.size());
  if (rows.empty()) return;
  std::vector<MaxItem> items;
  int64_t longest = 1;
  for (const LogitsShard& row : rows) {
    items.push_back({row.logits, row.n});
    longest = std::max(longest, row.n);
  }
  const RowExchange<MaxItem, MaxResult> exchange(context, items);
  FindMax<<<PieceGrid(longest, rows.size()), kRowThreads, 0, context.stream>>>(exchange.items(),
                                                                               exchange.results());
  KRAIT_CHECK_LAUNCH("FindRowMax");
  const std::vector<MaxResult> results = exchange.Download();
  for (size_t i = 0; i < rows.size(); ++i) {
    out[i] = {FloatOf(results[i].max), results[i].infinite == 0};
  }
}

}  // namespace krait::kernels
