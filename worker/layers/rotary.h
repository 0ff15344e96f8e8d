#pragma once

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace krait {

// Cosines and sines of the rotary position embedding for positions [0, max_positions). The
// frequencies and the angles are formed in float32, as Hugging Face's implementation forms them:
// at long positions a more exact angle would be another function than the one that was trained.
class RotaryTables {
 public:
  // RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<RotaryTables> Create(int64_t max_positions, int64_t head_dim, double theta,
                                             Backend* backend);

  TensorView cos() const { return cos_.view(); }  // [max_positions, head_dim / 2], f32
  TensorView sin() const { return sin_.view(); }  // same
  int64_t max_positions() const { return cos_.shape()[0]; }

 private:
  RotaryTables(Tensor cos, Tensor sin) : cos_(std::move(cos)), sin_(std::move(sin)) {}

  Tensor cos_, sin_;
};

}  // namespace krait
