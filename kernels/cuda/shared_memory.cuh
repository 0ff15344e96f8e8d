#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {

// A kernel has more than 48 KiB of dynamic shared memory only where that was allowed. Always as
// much as there is: threads that launch one kernel with several sizes then take nothing from each
// other. Of kernels without static shared memory.
template <typename Kernel>
void AllowSharedMemory(Kernel* kernel, int shared_bytes) {
  constexpr int kAlwaysAllowed = 48 << 10;
  if (shared_bytes <= kAlwaysAllowed) return;
  int device = 0, most = 0;
  KRAIT_CUDA_CHECK(cudaGetDevice(&device));
  KRAIT_CUDA_CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  KRAIT_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
}

}  // namespace krait::kernels
