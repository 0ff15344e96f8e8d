#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "worker/layers/rope_scaling.h"

namespace krait {

// Radians a position, pair i of head_dim / 2; scaled. Every operation is a float32 one in the order
// of Hugging Face's implementation (modeling_rope_utils.py), so that the bits are those the model
// was trained with.
std::vector<float> RopeFrequencies(int64_t head_dim, const RopeConfig& config);

// Cosines and sines of the rotary position embedding for positions [0, max_positions). The
// frequencies and the angles are formed in float32, as Hugging Face's implementation forms them:
// at long positions a more exact angle would be another function than the one that was trained.
class RotaryTables {
 public:
  // RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<RotaryTables> Create(int64_t max_positions, int64_t head_dim,
                                             const RopeConfig& config, Backend* backend);

  TensorView cos() const { return cos_.view(); }  // [max_positions, head_dim / 2], f32
  TensorView sin() const { return sin_.view(); }  // same
  int64_t max_positions() const { return cos_.shape()[0]; }

 private:
  RotaryTables(Tensor cos, Tensor sin) : cos_(std::move(cos)), sin_(std::move(sin)) {}

  Tensor cos_, sin_;
};

}  // namespace krait
