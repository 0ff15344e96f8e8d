#include "kernels/cpu/cpu_ops.h"

namespace krait::kernels {
namespace {

float Penalized(const PenaltyRow& row, const TokenCount& count, float logit) {
  logit = logit > 0 ? logit / row.repetition : logit * row.repetition;
  if (count.output_count == 0) return logit;
  return logit - static_cast<float>(count.output_count) * row.frequency - row.presence;
}

}  // namespace

void RunPenalize(const CpuContext& context, absl::Span<const PenaltyRow> rows) {
  for (const PenaltyRow& row : rows) {
    for (const TokenCount& count : row.counts) {
      const int64_t index = IndexOf(row.shard, count.id);
      if (index < 0) continue;
      float* logit = row.shard.logits + index;
      *logit = Penalized(row, count, *logit);
    }
  }
}

}  // namespace krait::kernels
