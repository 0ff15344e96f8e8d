#pragma once

#include <atomic>
#include <memory>

#include "kernels/cpu/cpu_backend.h"

namespace krait::testing {

// The CPU's ops under a GPU's name: whatever asks for a GPU's way of doing things goes that way.
class GpuStandIn final : public kernels::CpuBackend {
 public:
  explicit GpuStandIn(int index = 0, int num_threads = 1)
      : CpuBackend({.index = index, .num_threads = num_threads}), index_(index) {}
  Device device() const override { return {DeviceKind::kCuda, index_}; }
  bool Idle() override { return !stuck; }

  std::atomic<bool> stuck = false;  // as if an op waited for a peer

 private:
  const int index_;
};

}  // namespace krait::testing
