#pragma once

#include <cuda_runtime.h>

#include "common/logging.h"

namespace krait::kernels {

// A failed CUDA call leaves the device's memory in an unknown state: the process ends and its
// supervisor starts another.
inline void CheckCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  LOG(FATAL) << what << ": " << cudaGetErrorName(error) << ": " << cudaGetErrorString(error);
}

}  // namespace krait::kernels

#define KRAIT_CUDA_CHECK(expression) ::krait::kernels::CheckCuda((expression), #expression)
// After each launch: a bad configuration shows here, a fault in the kernel at the next wait.
#define KRAIT_CHECK_LAUNCH(kernel) ::krait::kernels::CheckCuda(cudaGetLastError(), kernel)
