#pragma once

// The parts of DrawTokens (draw_tokens.cu) that its files share.

#include <cstdint>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/logits_row.cuh"
#include "kernels/ops/draw_tokens.h"

namespace krait::kernels {

struct LogitRows {
  const float* data;
  int64_t stride, n;

  __device__ const float* row(int r) const { return data + r * stride; }
};

struct PieceMax {
  uint32_t max;  // OrderedBits; 0: none
  uint32_t infinite;
};

// What the kernels of a draw leave for each other: for each row, a number for each piece.
struct RowPieces {
  PieceMax* max;
  unsigned long long* best;  // OrderedBits of the score, ~id; 0: none
  int count;
};

// Of the whole row, from its pieces; all threads of a warp get it.
__device__ inline PieceMax RowMaxOf(const RowPieces& pieces, int row) {
  PieceMax all = {0, 0};
  for (int i = threadIdx.x % 32; i < pieces.count; i += 32) {
    const PieceMax piece = pieces.max[row * pieces.count + i];
    all.max = max(all.max, piece.max);
    all.infinite |= piece.infinite;
  }
  return {__reduce_max_sync(0xffffffffu, all.max), __reduce_or_sync(0xffffffffu, all.infinite)};
}

// Larger keys are larger logits, then lower places; -0 is +0.
__device__ inline uint64_t KeyOf(float logit, int64_t i) {
  return uint64_t{OrderedBits(logit == 0 ? 0.0f : logit)} << 32 | ~static_cast<uint32_t>(i);
}

// cuts[r]: the smallest key that top_k and top_p of row r leave; rows without them have none.
void RunRowCuts(const CudaContext& context, const LogitRows& rows, const DrawChoice* choices,
                int64_t num_rows, const RowPieces& pieces, uint64_t* cuts);

}  // namespace krait::kernels
