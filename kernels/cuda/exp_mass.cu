// sum of round(e^((l - max) / T) 2^40): integers, so that threads add up to the same.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/logits_row.cuh"

namespace krait::kernels {
namespace {

struct MassItem {
  const float* logits;
  int64_t n;
  float max, temperature;
};
using Mass = unsigned long long;

__global__ void SumMass(const MassItem* items, Mass* results) {
  const MassItem item = items[blockIdx.y];
  Mass mass = 0;
  ForPiece(item.n, [&](int64_t i) { mass += MassOf(item.logits[i], item.max, item.temperature); });
  for (int offset = 16; offset > 0; offset /= 2) {
    mass += __shfl_xor_sync(0xffffffffu, mass, offset);
  }
  if (threadIdx.x % 32 == 0 && mass != 0) atomicAdd(&results[blockIdx.y], mass);
}

}  // namespace

void RunExpMass(const CudaContext& context, absl::Span<const MassRow> rows,
                absl::Span<uint64_t> out) {
  CHECK_EQ(rows.size(), out.size());
  if (rows.empty()) return;
  std::vector<MassItem> items;
  for (const MassRow& row : rows) {
    items.push_back({row.shard.logits, row.shard.n, row.max, row.temperature});
  }
  const RowExchange<MassItem, Mass> exchange(context, items);
  SumMass<<<PieceGrid(LongestRow(rows), rows.size()), kRowThreads, 0, context.stream>>>(
      exchange.items(), exchange.results());
  KRAIT_CHECK_LAUNCH("ExpMass");
  const std::vector<Mass> results = exchange.Download();
  std::copy(results.begin(), results.end(), out.begin());
}

}  // namespace krait::kernels
