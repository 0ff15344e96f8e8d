#pragma once

#include <cstdint>

#include "kernels/cpu/conv_taps.h"
#include "kernels/cpu/target.h"

namespace krait::kernels {

// A group of channels that share B and C, with their parameters.
struct ScanGroup {
  int64_t size = 0;           // N: channels of the group, and the state's dimension
  int64_t first_channel = 0;  // of C, dt, z, y and the weights
  int64_t first_input = 0;    // of x and B: several groups may share them
  ConvWeight conv;
  const float* dt_bias = nullptr;  // [channels]
  const float* a = nullptr;        // [N, N] of this group: state, channel
  const float* d = nullptr;        // [channels]
};

// What one token brings.
struct ScanToken {
  ConvTaps taps;              // of x
  const float* b = nullptr;   // [N], of this group
  const float* c = nullptr;   // same; null where no output is wanted
  const float* dt = nullptr;  // [channels]
  const float* z = nullptr;   // [channels]
};

// One token of one group: h moves on; y, if wanted, is its output.
using AdvanceFunction = void (*)(const ScanGroup& group, const ScanToken& token, float* h,
                                 float* y);
// In one target's variant.
AdvanceFunction AdvanceFunctionFor(Target target);

}  // namespace krait::kernels
