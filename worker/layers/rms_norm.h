#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/layers/rank_context.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// Root-mean-square norm with a learned scale; the same on every rank. Rank thread only.
class RmsNorm {
 public:
  // Loads tensor `name` [n].
  static absl::StatusOr<RmsNorm> Load(const Checkpoint& checkpoint, const std::string& name,
                                      int64_t n, float eps, const RankContext& context);

  // x, y: [num_rows, n], f32; y may be x.
  void Forward(const TensorView& x, const TensorView& y) const;
  int64_t num_bytes() const { return weight_.num_bytes(); }

 private:
  RmsNorm(Backend* backend, Tensor weight, float eps);

  Backend* backend_;
  Tensor weight_;  // [n], f32
  float eps_;
};

}  // namespace krait
