// Weights as they were read into the layouts of CudaWeight.

#include <cuda_bf16.h>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/elementwise.cuh"

namespace krait::kernels {
namespace {

// One thread an element of the tiles.
__global__ void ToTiles(const float* rows, int64_t num_rows, int64_t k, SegmentCut cut,
                        __nv_bfloat16* tiles) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  constexpr int64_t kTileElements = 16 * SegmentCut::kTile;
  const int64_t tile = at / kTileElements, element = at % kTileElements;
  const int64_t row_tile = tile / cut.num_tiles(), k_tile = tile % cut.num_tiles();
  if (row_tile >= (num_rows + 15) / 16) return;
  const int64_t half = element / 256, lane = element / 8 % 32;
  const int64_t row = row_tile * 16 + half * 8 + lane / 4;
  const int64_t in_block =
      k_tile % cut.tiles_per_block * SegmentCut::kTile + lane % 4 * 8 + element % 8;
  const int64_t column = k_tile / cut.tiles_per_block * cut.block_size + in_block;
  const bool real = row < num_rows && in_block < cut.block_size;
  tiles[at] = __float2bfloat16_rn(real ? rows[row * k + column] : 0.0f);
}

__global__ void Transpose(const float* rows, int64_t num_rows, int64_t n, int64_t k, float* out) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < num_rows * k) out[at % k * n + at / k] = rows[at];
}

unsigned BlocksFor(int64_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

}  // namespace

void PackTiles(const CudaContext& context, const float* rows, int64_t num_rows, int64_t begin,
               int64_t k, const SegmentCut& cut, void* tiles) {
  CHECK_EQ(begin % 16, 0);
  auto* to = static_cast<__nv_bfloat16*>(tiles) + begin * cut.padded_k();
  const int64_t count = (num_rows + 15) / 16 * 16 * cut.padded_k();
  ToTiles<<<BlocksFor(count), kThreads, 0, context.stream>>>(rows, num_rows, k, cut, to);
  KRAIT_CHECK_LAUNCH("PackTiles");
}

void PackTransposed(const CudaContext& context, const float* rows, int64_t num_rows, int64_t begin,
                    int64_t n, int64_t k, float* transposed) {
  Transpose<<<BlocksFor(num_rows * k), kThreads, 0, context.stream>>>(rows, num_rows, n, k,
                                                                      transposed + begin);
  KRAIT_CHECK_LAUNCH("PackTransposed");
}

}  // namespace krait::kernels
