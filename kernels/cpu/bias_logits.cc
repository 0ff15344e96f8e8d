#include "kernels/cpu/cpu_ops.h"

namespace krait::kernels {

void RunBiasLogits(const CpuContext& context, absl::Span<const BiasRow> rows) {
  for (const BiasRow& row : rows) {
    for (const BiasEntry& entry : row.entries) {
      const int64_t index = IndexOf(row.shard, entry.id);
      if (index >= 0) row.shard.logits[index] += entry.bias;
    }
  }
}

}  // namespace krait::kernels
