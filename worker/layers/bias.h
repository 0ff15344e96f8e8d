#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/layers/rank_context.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// Elements [range) of the vector `name` of `size` numbers.
struct VectorSlice {
  std::string name;
  int64_t size = 0;
  Range range;
};

// What a linear layer adds to its whole sum; or nothing. Rank thread only.
class Bias {
 public:
  Bias() = default;  // adds nothing

  // The slices one after the other, as the layer's outputs lie; none: adds nothing. NOT_FOUND or
  // INVALID_ARGUMENT names the tensor, RESOURCE_EXHAUSTED the bytes.
  static absl::StatusOr<Bias> Load(const Checkpoint& checkpoint,
                                   const std::vector<VectorSlice>& slices,
                                   const RankContext& context);

  // y [num_rows, n], f32, rows may be strided.
  void AddTo(const TensorView& y) const;
  int64_t num_bytes() const { return backend_ == nullptr ? 0 : values_.num_bytes(); }

 private:
  Backend* backend_ = nullptr;  // null: no bias
  Tensor values_;               // [n], f32
};

}  // namespace krait
