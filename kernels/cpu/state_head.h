#pragma once

#include <cstdint>

#include "kernels/cpu/target.h"
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

// What is computed of a head, in one target's variants.
struct HeadFunctions {
  // dt to softplus(dt + bias), in place; n is a multiple of eight.
  void (*discretize)(float* dt, int64_t n, float bias);
  // One more token's decay l for everything since the checkpoint; its own is 0.
  void (*append)(const StateInput& input, float l, StateInputs& inputs);
  // out [count, P]: S C_t, for c [count] of [N].
  void (*products)(const HeadShape& shape, const float* state, const float* const* c, int64_t count,
                   float* out);
  // The output of the last of `inputs`; `product`: the checkpoint's S C, null if it is 0.
  void (*output)(const HeadShape& shape, const float* product, const StateInputs& inputs,
                 const float* c, float d, float* y);
  // The checkpoint after `inputs`, which are all of an interval; `from` null: it was 0. May be in
  // place.
  void (*fold)(const HeadShape& shape, const float* from, const StateInputs& inputs, float* to);
};
HeadFunctions HeadFunctionsFor(Target target);

}  // namespace krait::kernels
