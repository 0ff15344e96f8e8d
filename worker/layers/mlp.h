#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/layers/activations.h"
#include "worker/layers/linear.h"

namespace krait {

struct MlpNames {
  LinearNames gate, up, down;
};

// hidden += down(silu(gate(x)) * up(x)) (arXiv 2002.05202), this rank's blocks of the intermediate
// dimension. Rank thread only.
class Mlp {
 public:
  static absl::StatusOr<Mlp> Load(const Checkpoint& checkpoint, const MlpNames& names,
                                  int64_t hidden_size, const RankContext& context);

  // x and hidden [num_rows, hidden_size]. UNAVAILABLE if a peer is lost.
  absl::Status Forward(const TensorView& x, const Activations& activations,
                       const TensorView& hidden) const;
  int64_t num_bytes() const { return gate_up_.num_bytes() + down_.num_bytes(); }

 private:
  Mlp(Backend* backend, MergedColumnParallelLinear gate_up, RowParallelLinear down);

  Backend* backend_;
  MergedColumnParallelLinear gate_up_;
  RowParallelLinear down_;
};

}  // namespace krait
