#pragma once

#include <cstdint>

#include "kernels/ops/selective_state_update.h"

namespace krait::kernels {

// Where heads and groups lie in the rows of a SelectiveStateUpdate.
struct StateLayout {
  explicit StateLayout(const SelectiveStateUpdateParams& params)
      : num_heads(params.state.dim(1)),
        state_dim(params.state.dim(2)),
        head_dim(params.state.dim(3)),
        num_groups((params.ring.dim(2) - num_heads) / (head_dim + state_dim)) {}

  int64_t group(int64_t head) const { return head / (num_heads / num_groups); }
  int64_t b_offset() const { return num_groups * head_dim; }
  int64_t dt_offset() const { return num_groups * (head_dim + state_dim); }
  int64_t state_size() const { return state_dim * head_dim; }

  int64_t num_heads, state_dim, head_dim, num_groups;
};

}  // namespace krait::kernels
