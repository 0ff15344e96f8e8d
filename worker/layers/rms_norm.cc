#include "worker/layers/rms_norm.h"

#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "worker/weights/weight_loader.h"

namespace krait {

absl::StatusOr<RmsNorm> RmsNorm::Load(const Checkpoint& checkpoint, const std::string& name,
                                      int64_t n, float eps, const RankContext& context) {
  ASSIGN_OR_RETURN(const std::vector<float> values,
                   LoadVector(checkpoint, name, n, 0, n, context.weight_dtype));
  ASSIGN_OR_RETURN(Tensor weight, context.backend->Allocate(DType::kF32, {n}));
  context.backend->CopyFromHost(values.data(), weight.view());
  return RmsNorm(context.backend, std::move(weight), eps);
}

RmsNorm::RmsNorm(Backend* backend, Tensor weight, float eps)
    : backend_(backend), weight_(std::move(weight)), eps_(eps) {}

void RmsNorm::Forward(const TensorView& x, const TensorView& y) const {
  backend_->RmsNorm({.x = x, .weight = weight_.view(), .eps = eps_, .y = y});
}

}  // namespace krait
