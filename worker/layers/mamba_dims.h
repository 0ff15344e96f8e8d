#pragma once

#include <cstdint>

#include "worker/layers/sharding.h"

namespace krait {

// The numbers of a Mamba1 or Mamba2 mixer, grouped like the attention it was made from (arXiv
// 2408.15237, section 2.2): x and B are as wide as keys and values, C and z as queries.
struct MambaDims {
  int64_t hidden_size = 0;
  int64_t inner_size = 0;  // d_inner: width of C, z and the output
  int64_t xb_size = 0;     // d_xb: width of x and B; divides inner_size
  int64_t state_dim = 0;   // N; also the width of a head (Mamba2) or of a channel group (Mamba1)
  int64_t dt_rank = 0;     // Mamba1 only
  int64_t conv_taps = 0;
  int64_t num_units = 0;  // the model's KV groups: the unit of sharding, divides num_groups

  int64_t num_groups() const { return xb_size / state_dim; }
  int64_t num_heads() const { return inner_size / state_dim; }
  int64_t repeat() const { return inner_size / xb_size; }

  bool operator==(const MambaDims&) const = default;
};

// A rank's part of a mixer.
struct MambaShard {
  MambaShard(const MambaDims& dims, const Sharding& sharding)
      : units(sharding.kv_groups),
        xb(units * (dims.xb_size / dims.num_units)),
        inner(units * (dims.inner_size / dims.num_units)),
        heads(units * (dims.num_heads() / dims.num_units)) {}

  Range units;  // of sharding
  Range xb;     // channels of x and of B
  Range inner;  // channels of C, z, dt (Mamba1) and the output
  Range heads;  // inner / state_dim
};

}  // namespace krait
