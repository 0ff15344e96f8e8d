#include "worker/layers/mlp.h"

#include <utility>

#include "common/status_macros.h"

namespace krait {

absl::StatusOr<Mlp> Mlp::Load(const Checkpoint& checkpoint, const MlpNames& names,
                              int64_t hidden_size, const RankContext& context) {
  const Sharding& sharding = context.sharding;
  ASSIGN_OR_RETURN(MergedColumnParallelLinear gate_up,
                   MergedColumnParallelLinear::Load(checkpoint, {names.gate, names.up},
                                                    sharding.intermediate_size(),
                                                    sharding.intermediate(), hidden_size, context));
  const BlockCut cut{.num_blocks = sharding.num_mlp_blocks,
                     .block_size = sharding.mlp_block_size,
                     .own = sharding.mlp_blocks};
  ASSIGN_OR_RETURN(RowParallelLinear down,
                   RowParallelLinear::Load(checkpoint, names.down, hidden_size, cut, context));
  return Mlp(context.backend, std::move(gate_up), std::move(down));
}

Mlp::Mlp(Backend* backend, MergedColumnParallelLinear gate_up, RowParallelLinear down)
    : backend_(backend), gate_up_(std::move(gate_up)), down_(std::move(down)) {}

absl::Status Mlp::Forward(const TensorView& x, const Activations& activations,
                          const TensorView& hidden) const {
  const TensorView gate_up = activations.gate_up(x.dim(0));
  const TensorView activated = activations.mlp(x.dim(0));
  gate_up_.Forward(x, gate_up);
  backend_->SiluMul({.gate_up = gate_up, .y = activated});
  return down_.Forward(activated, hidden, activations.mlp_partials(), hidden);
}

}  // namespace krait
