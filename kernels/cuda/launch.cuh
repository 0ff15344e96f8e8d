#pragma once

// Kernels of a step start before the kernel before them has ended (programmatic dependent launch),
// so that what need not wait is under way by then: the start itself, and reading weights.
//
// Every kernel that goes through Launch calls AwaitPrevious, in every thread, before it touches
// anything but constants (weights). So when a kernel is done, all before it are, and one that is
// launched in the ordinary way waits for them all.

#include <cuda_runtime.h>

#include <type_traits>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_ops.h"

namespace krait::kernels {

// The next kernel's blocks may start as soon as all of this kernel's have called it.
__device__ inline void LetNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// What kernels before this one wrote is there, and what they read may be written.
__device__ inline void AwaitPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Both, for kernels that have nothing to do before.
__device__ inline void StartInOrder() {
  LetNextStart();
  AwaitPrevious();
}

// Whether kernels were compiled with the above: not those that the driver makes of older PTX.
template <typename Kernel>
bool CanStartEarly(Kernel* kernel) {
  cudaFuncAttributes attributes;
  KRAIT_CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
  return attributes.ptxVersion >= 90;
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  int shared_bytes = 0;  // dynamic
};

// `what` names the op if the launch fails.
template <typename... Parameters>
void Launch(const CudaContext& context, const char* what, void (*kernel)(Parameters...),
            const LaunchShape& shape, const std::type_identity_t<Parameters>&... arguments) {
  static const bool start_early = CanStartEarly(kernel);
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = context.stream;
  config.attrs = &early;
  config.numAttrs = start_early ? 1 : 0;
  CheckCuda(cudaLaunchKernelEx(&config, kernel, arguments...), what);
}

}  // namespace krait::kernels
