#include "kernels/backend.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#if KRAIT_CUDA
#include "kernels/cuda/create_cuda_backend.h"
#endif

namespace krait {

int CountDevices(DeviceKind kind) {
  if (kind == DeviceKind::kCpu) return 1;
#if KRAIT_CUDA
  return CountCudaDevices();
#else
  return 0;
#endif
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(Device device, int num_threads) {
  if (device.kind == DeviceKind::kCpu) {
    return CreateCpuBackend({.index = device.index, .num_threads = num_threads});
  }
#if KRAIT_CUDA
  return CreateCudaBackend(device.index);
#else
  return absl::FailedPreconditionError(
      absl::StrCat("no ", device.ToString(), ": this build has no CUDA (CMake preset cuda)"));
#endif
}

}  // namespace krait
