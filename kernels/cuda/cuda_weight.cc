#include "kernels/cuda/cuda_weight.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/logging.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {
namespace {

// Segments of a whole sum: enough for 16 warps a tile of outputs, which is what keeps the memory
// busy (performance: 0.90 of its speed at 16, 0.86 at 8 on an H200).
constexpr int64_t kSegments = 16;
constexpr int64_t kSliceElements = int64_t{1} << 24;

int64_t SliceRows(int64_t k) { return std::max<int64_t>(16, kSliceElements / k / 16 * 16); }

}  // namespace

SegmentCut::SegmentCut(int64_t k, int64_t k_blocks)
    : num_blocks(static_cast<int>(k_blocks)),
      segments_per_block(static_cast<int>(std::max<int64_t>(1, kSegments / k_blocks))),
      block_size(k / k_blocks),
      tiles_per_block((block_size + kTile - 1) / kTile) {}

CudaWeight::CudaWeight(const LinearSource& source, Tensor memory)
    : n_(source.n),
      k_(source.k),
      dtype_(source.dtype),
      cut_(source.k, source.k_blocks),
      memory_(std::move(memory)) {}

absl::StatusOr<std::unique_ptr<CudaWeight>> CudaWeight::Pack(const LinearSource& source, int device,
                                                             const CudaContext& context) {
  CHECK(source.n > 0 && source.k > 0) << source.n << " x " << source.k;
  CHECK(source.k_blocks > 0 && source.k % source.k_blocks == 0) << source.k_blocks;
  CHECK(source.dtype == DType::kF32 || source.dtype == DType::kBF16) << krait::Name(source.dtype);
  const SegmentCut cut(source.k, source.k_blocks);
  const bool tiles = source.dtype == DType::kBF16;
  const Shape shape =
      tiles ? Shape{(source.n + 15) / 16 * 16, cut.padded_k()} : Shape{source.k, source.n};
  ASSIGN_OR_RETURN(Tensor memory, AllocateDevice(device, source.dtype, shape));
  const int64_t slice = std::min(source.n, SliceRows(source.k));
  std::vector<float> host(slice * source.k);
  auto* rows = context.workspace->Get<float>(slice * source.k);
  for (int64_t begin = 0; begin < source.n; begin += slice) {
    const int64_t count = std::min(slice, source.n - begin);
    RETURN_IF_ERROR(source.read_rows(begin, begin + count, host.data()));
    KRAIT_CUDA_CHECK(cudaMemcpyAsync(rows, host.data(), count * source.k * sizeof(float),
                                     cudaMemcpyHostToDevice, context.stream));
    if (tiles) {
      PackTiles(context, rows, count, begin, source.k, cut, memory.ptr<void>());
    } else {
      PackTransposed(context, rows, count, begin, source.n, source.k, memory.ptr<float>());
    }
    KRAIT_CUDA_CHECK(cudaStreamSynchronize(context.stream));  // `host` is written again
  }
  return std::unique_ptr<CudaWeight>(new CudaWeight(source, std::move(memory)));
}

}  // namespace krait::kernels
