#pragma once

#include <cstdint>

#include "kernels/ops/selective_state_update.h"

namespace krait::kernels {

// One input of a head's recurrence. x and B lie in the ring or among the new tokens.
struct StateInput {
  const float* x = nullptr;  // [P]
  const float* b = nullptr;  // [N]
  float dt = 0;              // after softplus
};

// The inputs since the checkpoint up to some token, and how much each has decayed there:
// decay[0] = l_b + .. + l_t, decay[1 + u - b] = L(u, t).
struct StateInputs {
  StateInput input[kMaxFoldInterval];
  float decay[kMaxFoldInterval + 8] = {};  // whole vectors of eight
  int count = 0;
};

struct HeadShape {
  int64_t head_dim = 0;   // P
  int64_t state_dim = 0;  // N
};

inline constexpr int64_t kMaxStateHeadDim = 256;

}  // namespace krait::kernels
