#pragma once

#include <cstdint>

#include "kernels/ops/selective_scan.h"

namespace krait::kernels {

// Channels and groups of a SelectiveScan.
struct ScanLayout {
  explicit ScanLayout(const SelectiveScanParams& params)
      : channels(params.c.dim(1)),
        inputs(params.x.dim(1)),
        group_size(params.state.dim(2)),
        num_groups(channels / group_size),
        repeat(channels / inputs) {}

  int64_t state_size() const { return group_size * group_size; }

  int64_t channels, inputs, group_size, num_groups, repeat;
};

}  // namespace krait::kernels
