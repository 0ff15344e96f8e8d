#include "kernels/cuda/device_memory.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {

absl::StatusOr<Tensor> AllocateDevice(int device, DType dtype, Shape shape) {
  const int64_t num_bytes = shape.num_elements() * ByteSize(dtype);
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, std::max<int64_t>(1, num_bytes));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is not a fault of later calls
    size_t free = 0, total = 0;
    KRAIT_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return absl::ResourceExhaustedError(absl::StrCat(
        "no memory for ", num_bytes, " bytes (", shape.ToString(), " ", krait::Name(dtype),
        ") on cuda:", device, ": ", free, " of ", total, " bytes are free"));
  }
  KRAIT_CUDA_CHECK(error);
  return Tensor(
      memory, [](void* memory) { cudaFree(memory); }, dtype, shape);
}

void* Workspace::Reserve(int64_t num_bytes) {
  if (blocks_.empty() || blocks_.back().num_bytes() < num_bytes) {
    // Twice as much: all blocks together are less than twice the largest.
    absl::StatusOr<Tensor> block = AllocateDevice(device_, DType::kU8, {2 * num_bytes});
    CHECK(block.ok()) << block.status();
    blocks_.push_back(*std::move(block));
  }
  return blocks_.back().ptr<void>();
}

}  // namespace krait::kernels
