#include "worker/layers/bias.h"

#include "common/status_macros.h"
#include "worker/weights/weight_loader.h"

namespace krait {

absl::StatusOr<Bias> Bias::Load(const Checkpoint& checkpoint,
                                const std::vector<VectorSlice>& slices,
                                const RankContext& context) {
  if (slices.empty()) return Bias();
  std::vector<float> values;
  for (const VectorSlice& slice : slices) {
    ASSIGN_OR_RETURN(const std::vector<float> part,
                     LoadVector(checkpoint, slice.name, slice.size, slice.range.begin,
                                slice.range.end, context.weight_dtype));
    values.insert(values.end(), part.begin(), part.end());
  }
  Bias bias;
  bias.backend_ = context.backend;
  ASSIGN_OR_RETURN(bias.values_,
                   context.backend->Allocate(DType::kF32, {static_cast<int64_t>(values.size())}));
  context.backend->CopyFromHost(values.data(), bias.values_.view());
  return bias;
}

void Bias::AddTo(const TensorView& y) const {
  if (backend_ != nullptr) backend_->AddLinearBias({.x = y, .bias = values_.view()});
}

}  // namespace krait
