#include "kernels/read_meter.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/read_bandwidth.h"
#if KRAIT_CUDA
#include "kernels/cuda/cuda_read_meter.h"
#endif

namespace krait {
namespace {

class CpuReadMeter final : public ReadMeter {
 public:
  CpuReadMeter(int num_threads, int64_t num_bytes) : bandwidth_(num_threads, num_bytes) {}
  double Pass() override { return bandwidth_.Pass(); }

 private:
  kernels::ReadBandwidth bandwidth_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ReadMeter>> CreateReadMeter(Device device, int num_threads,
                                                           int64_t num_bytes) {
  if (device.kind == DeviceKind::kCpu) {
    return std::make_unique<CpuReadMeter>(num_threads, num_bytes);
  }
#if KRAIT_CUDA
  return kernels::CreateCudaReadMeter(device.index, num_bytes);
#else
  return absl::FailedPreconditionError(
      absl::StrCat("no ", device.ToString(), ": this build has no CUDA (CMake preset cuda)"));
#endif
}

}  // namespace krait
