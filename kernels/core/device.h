#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace krait {

enum class DeviceKind { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;
  // "cpu:0", "cuda:3"
  std::string ToString() const {
    return (kind == DeviceKind::kCpu ? "cpu:" : "cuda:") + std::to_string(index);
  }
};

// "cpu" or "" (cpu:0), "cuda" (cuda:0), "cuda:3". INVALID_ARGUMENT says what is taken.
absl::StatusOr<Device> ParseDevice(std::string_view text);

}  // namespace krait
