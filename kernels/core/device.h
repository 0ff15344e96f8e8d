#pragma once

#include <string>

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

}  // namespace krait
