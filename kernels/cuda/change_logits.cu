// BiasLogits and Penalize: the host finds each entry's place, a thread an entry changes it.

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/logits_row.cuh"

namespace krait::kernels {
namespace {

struct Bias {
  float* logit;
  float bias;
};

struct Penalty {
  float* logit;
  int32_t output_count;
  float repetition, presence, frequency;
};

__device__ void Apply(const Bias& change) { *change.logit += change.bias; }

__device__ void Apply(const Penalty& change) {
  float logit = *change.logit;
  logit = logit > 0 ? logit / change.repetition : logit * change.repetition;
  if (change.output_count != 0) {
    logit = logit - static_cast<float>(change.output_count) * change.frequency - change.presence;
  }
  *change.logit = logit;
}

template <typename Change>
__global__ void ApplyAll(const Change* changes, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i < count) Apply(changes[i]);
}

template <typename Change>
void Run(const CudaContext& context, const std::vector<Change>& changes) {
  if (changes.empty()) return;
  const auto count = static_cast<int64_t>(changes.size());
  auto* memory = context.workspace->Get<Change>(count);
  context.link->Upload(changes.data(), memory, changes.size() * sizeof(Change));
  ApplyAll<<<static_cast<unsigned>((count + kRowThreads - 1) / kRowThreads), kRowThreads, 0,
             context.stream>>>(memory, count);
  KRAIT_CHECK_LAUNCH("BiasLogits or Penalize");
}

}  // namespace

void RunBiasLogits(const CudaContext& context, absl::Span<const BiasRow> rows) {
  std::vector<Bias> changes;
  for (const BiasRow& row : rows) {
    for (const BiasEntry& entry : row.entries) {
      const int64_t index = IndexOf(row.shard, entry.id);
      if (index >= 0) changes.push_back({row.shard.logits + index, entry.bias});
    }
  }
  Run(context, changes);
}

void RunPenalize(const CudaContext& context, absl::Span<const PenaltyRow> rows) {
  std::vector<Penalty> changes;
  for (const PenaltyRow& row : rows) {
    for (const TokenCount& count : row.counts) {
      const int64_t index = IndexOf(row.shard, count.id);
      if (index < 0) continue;
      changes.push_back({row.shard.logits + index, count.output_count, row.repetition, row.presence,
                         row.frequency});
    }
  }
  Run(context, changes);
}

}  // namespace krait::kernels
