// Three kernels: the largest logit of each piece of a row, then, knowing the row's, the best score
// of each piece, then the best of a row; and one more before the second where rows have filters.
// Score and id make one number, so the largest is the same in any order. A row that is left out
// costs its blocks' start.

#include "common/gumbel.h"
#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/row_cut.cuh"

namespace krait::kernels {
namespace {

using Best = unsigned long long;  // OrderedBits of the score, ~id; 0: none

struct Ids {
  TokenId first;
  const TokenId* list;

  __device__ TokenId operator[](int64_t i) const {
    return list == nullptr ? first + static_cast<TokenId>(i) : list[i];
  }
};

// The largest of all threads of the block, in thread 0.
template <typename T>
__device__ T BlockLargest(T value, T* scratch) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = max(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < kRowThreads / 32; ++warp) value = max(value, scratch[warp]);
  }
  return value;
}

__global__ void FindPieceMax(LogitRows logits, const DrawChoice* choices, RowPieces pieces) {
  const int row = blockIdx.y;
  if (choices[row].drawn == 0) return;
  const float* values = logits.row(row);
  uint32_t max = 0;
  int infinite = 0;
  ForPiece(logits.n, [&](int64_t i) {
    const float x = values[i];
    infinite |= isfinite(x) ? 0 : 1;
    if (!isnan(x)) max = ::max(max, OrderedBits(x));
  });
  __shared__ uint32_t scratch[kRowThreads / 32];
  const uint32_t any_infinite = __syncthreads_or(infinite);
  max = BlockLargest(max, scratch);
  if (threadIdx.x == 0) pieces.max[row * pieces.count + blockIdx.x] = {max, any_infinite};
}

__device__ float ScoreOf(const DrawChoice& choice, const GumbelKey& key, float max, float logit,
                         TokenId id) {
  if (choice.temperature == 0) return logit;
  const float z = (logit - max) / choice.temperature;
  if (choice.min_z > z) return -INFINITY;
  return z + Gumbel(key, id);
}

__global__ void FindPieceBest(LogitRows logits, Ids ids, const int32_t* rows,
                              const int32_t* positions, const DrawChoice* choices,
                              const uint64_t* cuts, RowPieces pieces) {
  const int row = blockIdx.y;
  const DrawChoice choice = choices[row];
  if (choice.drawn == 0) return;
  const float max = FromOrderedBits(RowMaxOf(pieces, row).max);
  const GumbelKey key = {choice.seed, int64_t{positions[rows[row]]} + 1, choice.choice};
  const uint64_t cut = choice.temperature != 0 && choice.filtered() ? cuts[row] : 0;
  const float* values = logits.row(row);
  Best best = 0;
  ForPiece(logits.n, [&](int64_t i) {
    if (KeyOf(values[i], i) < cut) return;
    const TokenId id = ids[i];
    const float score = ScoreOf(choice, key, max, values[i], id);
    if (!(score > -INFINITY)) return;
    // -0 and +0 tie.
    const Best ordered = OrderedBits(score == 0 ? 0.0f : score);
    best = ::max(best, ordered << 32 | ~static_cast<uint32_t>(id));
  });
  __shared__ Best scratch[kRowThreads / 32];
  best = BlockLargest(best, scratch);
  if (threadIdx.x == 0) pieces.best[row * pieces.count + blockIdx.x] = best;
}

// A warp a row.
__global__ void FindTokens(const DrawChoice* choices, RowPieces pieces, TokenId* tokens) {
  const int row = blockIdx.x;
  Best best = 0;
  if (choices[row].drawn != 0 && RowMaxOf(pieces, row).infinite == 0) {
    for (int i = threadIdx.x; i < pieces.count; i += 32) {
      best = max(best, pieces.best[row * pieces.count + i]);
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    best = max(best, __shfl_xor_sync(0xffffffffu, best, offset));
  }
  if (threadIdx.x != 0) return;
  tokens[row] = best == 0 ? kNoToken : static_cast<TokenId>(~static_cast<uint32_t>(best));
}

}  // namespace

void RunDrawTokens(const CudaContext& context, const DrawTokensParams& params) {
  CHECK(params.logits.dtype == DType::kF32);
  const int64_t num_rows = params.logits.dim(0), n = params.logits.dim(1);
  if (num_rows == 0) return;
  const dim3 grid = PieceGrid(n, static_cast<size_t>(num_rows));
  const int64_t num_pieces = num_rows * grid.x;
  static_assert(sizeof(PieceMax) == sizeof(Best) && sizeof(uint64_t) == sizeof(Best));
  auto* memory = context.workspace->Get<Best>(2 * num_pieces + num_rows);
  const RowPieces pieces = {reinterpret_cast<PieceMax*>(memory), memory + num_pieces,
                            static_cast<int>(grid.x)};
  auto* cuts = reinterpret_cast<uint64_t*>(memory + 2 * num_pieces);
  const LogitRows logits = {params.logits.ptr<float>(), params.logits.row_stride, n};
  FindPieceMax<<<grid, kRowThreads, 0, context.stream>>>(logits, params.choices, pieces);
  if (params.any_filtered) RunRowCuts(context, logits, params.choices, num_rows, pieces, cuts);
  FindPieceBest<<<grid, kRowThreads, 0, context.stream>>>(logits, Ids{params.first_id, params.ids},
                                                          params.rows, params.positions,
                                                          params.choices, cuts, pieces);
  FindTokens<<<static_cast<unsigned>(num_rows), 32, 0, context.stream>>>(params.choices, pieces,
                                                                         params.tokens);
  KRAIT_CHECK_LAUNCH("DrawTokens");
}

}  // namespace krait::kernels
