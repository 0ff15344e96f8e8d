#include "worker/comm/comm_kind.h"

#include "absl/strings/str_cat.h"
#include "common/field_error.h"

namespace krait {
namespace {

CommKind DefaultComm(DeviceKind device, int tensor_parallel_size, int num_processes) {
  if (device == DeviceKind::kCuda && tensor_parallel_size > 1) return CommKind::kNccl;
  return num_processes > 1 ? CommKind::kGloo : CommKind::kInProcess;
}

}  // namespace

absl::StatusOr<CommKind> ChooseComm(std::optional<CommKind> wanted, DeviceKind device,
                                    int tensor_parallel_size, int num_processes) {
  const CommKind kind = wanted.value_or(DefaultComm(device, tensor_parallel_size, num_processes));
  if (kind == CommKind::kInProcess && num_processes > 1) {
    return FieldError("comm", absl::StrCat("IN_PROCESS needs processes = 1, got ", num_processes));
  }
  if (kind == CommKind::kGloo && device == DeviceKind::kCuda) {
    return FieldError("comm", "GLOO needs device cpu; with cuda, NCCL or IN_PROCESS");
  }
  if (kind == CommKind::kGloo && num_processes == 1) {
    return FieldError("comm", "GLOO needs processes > 1, got 1");
  }
  if (kind == CommKind::kNccl && device != DeviceKind::kCuda) {
    return FieldError("comm", "NCCL needs device cuda; with cpu, IN_PROCESS or GLOO");
  }
  return kind;
}

}  // namespace krait
