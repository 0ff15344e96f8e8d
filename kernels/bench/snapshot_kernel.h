#pragma once

#include "kernels/cuda/cuda_ops.h"

namespace krait::kernels {

// Mamba2's recurrence with a copy of the state after every token, so that any of them can be gone
// back to: a yardstick for SelectiveStateUpdate (ops/selective_state_update.h, N = P = 128).
struct SnapshotParams {
  const float* state = nullptr;  // [sequences, heads, N, P]
  const float* xbc = nullptr;    // [sequences, tokens, G P + G N + H N]
  const float* dt = nullptr;     // [sequences, tokens, heads]: after softplus
  const float* a = nullptr;      // [heads]
  float* snapshots = nullptr;    // [sequences, tokens, heads, N, P]
  float* y = nullptr;            // [sequences, tokens, heads, P]: S C
  int num_sequences = 0, num_tokens = 0, num_heads = 0, num_groups = 0;
};

void RunSnapshots(const CudaContext& context, const SnapshotParams& params);

// Small numbers of either sign.
void FillNoise(const CudaContext& context, float* to, int64_t count);

}  // namespace krait::kernels
