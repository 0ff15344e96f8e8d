#include "kernels/cuda/cuda_peer_board.h"

#include <cuda_runtime.h>

#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/device_memory.h"

namespace krait::kernels {

absl::StatusOr<std::unique_ptr<CudaPeerBoard>> CudaPeerBoard::Create(int device, int num_ranks) {
  CHECK(1 <= num_ranks && num_ranks <= kMaxRanks);
  ASSIGN_OR_RETURN(Tensor cells,
                   AllocateDevice(device, DType::kU8, {num_ranks * int64_t{sizeof(PeerCell)}}));
  KRAIT_CUDA_CHECK(cudaMemset(cells.ptr<void>(), 0, cells.num_bytes()));
  KRAIT_CUDA_CHECK(cudaDeviceSynchronize());  // streams that do not wait for the default one
  void* aborted = nullptr;
  KRAIT_CUDA_CHECK(
      cudaHostAlloc(&aborted, sizeof(uint32_t), cudaHostAllocPortable | cudaHostAllocMapped));
  *static_cast<uint32_t*>(aborted) = 0;
  return std::unique_ptr<CudaPeerBoard>(
      new CudaPeerBoard(std::move(cells), static_cast<uint32_t*>(aborted), num_ranks));
}

CudaPeerBoard::~CudaPeerBoard() { cudaFreeHost(aborted_); }

}  // namespace krait::kernels
