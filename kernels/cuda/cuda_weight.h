#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops/linear.h"

namespace krait::kernels {

// How the sum over k is cut, whatever the number of rows. Each of
// the k_blocks blocks is filled up to whole tiles of 32, and has `segments_per_block` segments of
// whole tiles; a segment is one chain of tensor-core steps of 16 in increasing k. Segments are
// added in order inside their block, blocks in order.
struct SegmentCut {
  static constexpr int kTile = 32;

  SegmentCut(int64_t k, int64_t k_blocks);

  constexpr int num_segments() const { return num_blocks * segments_per_block; }
  constexpr int64_t num_tiles() const { return num_blocks * tiles_per_block; }
  constexpr int64_t padded_k() const { return num_tiles() * kTile; }

  int num_blocks = 1;
  int segments_per_block = 1;
  int64_t block_size = 0;
  int64_t tiles_per_block = 0;
};

// bf16: tiles of 16 outputs x 32 k, each 1 KiB in the order in which the lanes of a warp feed it to
// mma.m16n8k16 as operand A: [n / 16][k / 32][output 8 half][lane = 4 (output mod 8) + k / 8][k mod
// 8]. Filled up with zeros. f32: [k][n], so that threads along outputs read side by side.
class CudaWeight final : public LinearWeight {
 public:
  // Errors of source.read_rows; RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<CudaWeight>> Pack(const LinearSource& source, int device,
                                                          const CudaContext& context);

  int64_t n() const override { return n_; }
  int64_t k() const override { return k_; }
  int64_t k_blocks() const override { return cut_.num_blocks; }
  int64_t num_bytes() const override { return memory_.num_bytes(); }

  DType dtype() const { return dtype_; }
  const SegmentCut& cut() const { return cut_; }
  int64_t num_row_tiles() const { return (n_ + 15) / 16; }
  template <typename T>
  const T* data() const {
    return memory_.ptr<const T>();
  }

 private:
  CudaWeight(const LinearSource& source, Tensor memory);

  const int64_t n_;
  const int64_t k_;
  const DType dtype_;
  const SegmentCut cut_;
  const Tensor memory_;
};

void RunLinear(const CudaContext& context, const LinearParams& params);

// Rows [begin, begin + num_rows) of a weight, f32 [num_rows, k] on the device, into its layout.
void PackTiles(const CudaContext& context, const float* rows, int64_t num_rows, int64_t begin,
               int64_t k, const SegmentCut& cut, void* tiles);
void PackTransposed(const CudaContext& context, const float* rows, int64_t num_rows, int64_t begin,
                    int64_t n, int64_t k, float* transposed);

}  // namespace krait::kernels
