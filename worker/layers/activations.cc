#include "worker/layers/activations.h"

#include <algorithm>

#include "common/status_macros.h"

namespace krait {

absl::StatusOr<Activations> Activations::Create(const ActivationDims& dims, Backend* backend) {
  Activations memory;
  const auto allocate = [backend](Tensor& tensor, Shape shape,
                                  DType dtype = DType::kF32) -> absl::Status {
    if (shape.num_elements() == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(tensor, backend->Allocate(dtype, shape));
    return absl::OkStatus();
  };
  const int64_t t = dims.max_tokens;
  RETURN_IF_ERROR(allocate(memory.hidden_, {t, dims.hidden_size}));
  RETURN_IF_ERROR(allocate(memory.normed_, {std::max(t, dims.max_logits), dims.hidden_size},
                           dims.linear_input));
  RETURN_IF_ERROR(allocate(memory.projected_, {t, dims.projected_width}));
  RETURN_IF_ERROR(allocate(memory.convolved_, {t, dims.convolved_width}));
  RETURN_IF_ERROR(allocate(memory.steps_, {t, dims.steps_width}));
  RETURN_IF_ERROR(allocate(memory.mixed_, {t, dims.mixed_width}, dims.linear_input));
  RETURN_IF_ERROR(allocate(memory.gate_up_, {t, 2 * dims.intermediate}));
  RETURN_IF_ERROR(allocate(memory.mlp_, {t, dims.intermediate}, dims.linear_input));
  RETURN_IF_ERROR(allocate(memory.last_, {dims.max_logits, dims.hidden_size}));
  RETURN_IF_ERROR(allocate(memory.mixer_partials_, {dims.mixer_blocks, t, dims.hidden_size}));
  RETURN_IF_ERROR(allocate(memory.mlp_partials_, {dims.mlp_blocks, t, dims.hidden_size}));
  return memory;
}

}  // namespace krait
