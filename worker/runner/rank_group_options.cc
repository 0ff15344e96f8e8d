#include "worker/runner/rank_group_options.h"

namespace krait {

Device DeviceOfRank(const RankGroupOptions& options, CommKind kind, int64_t rank, int num_devices) {
  Device device = options.device;
  if (device.kind == DeviceKind::kCuda && kind == CommKind::kInProcess) return device;
  device.index += static_cast<int>(rank);
  if (device.kind == DeviceKind::kCuda && num_devices > 0) device.index %= num_devices;
  return device;
}

}  // namespace krait
