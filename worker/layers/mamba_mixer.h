#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/cache/state_storage.h"
#include "worker/layers/activations.h"
#include "worker/layers/forward_context.h"
#include "worker/layers/linear.h"
#include "worker/layers/mamba_dims.h"
#include "worker/layers/mamba_weights.h"

namespace krait {

// A Mamba1 layer (arXiv 2312.00752; grouped, arXiv 2408.15237): z, x, B, C and a low-rank dt
// projected from the input; x repeated to all channels, then convolved; the scan
// (kernels/ops/selective_scan.h); output projection, each KV group one block of its sum. The bias
// of dt counts twice: in its projection and in the scan, as the released models were trained. Rank
// thread only.
class MambaMixer {
 public:
  // `prefix`: "model.layers.0.mamba.". Projections are one tensor (in_proj: z, x, B, C, dt) or one
  // each (in_proj_z, in_proj_x, B_proj, C_proj, dt_proj_down). INVALID_ARGUMENT or NOT_FOUND names
  // the tensor, RESOURCE_EXHAUSTED the bytes.
  static absl::StatusOr<MambaMixer> Load(const Checkpoint& checkpoint, const std::string& prefix,
                                         const MambaDims& dims, const RankContext& context);

  // hidden += mixer(x); moves the sequences' states on. x and hidden [num_tokens, hidden_size].
  // UNAVAILABLE if a peer is lost.
  absl::Status Forward(const ForwardContext& context, const StateSlots& slots, const TensorView& x,
                       const Activations& activations, const TensorView& hidden) const;
  int64_t num_bytes() const;

  // What a rank keeps of a sequence.
  static RecurrentLayerSpec Spec(const MambaDims& dims, const Sharding& sharding,
                                 int max_draft_tokens);
  static int64_t ProjectedWidth(const MambaDims& dims, const Sharding& sharding);

 private:
  struct Vectors;

  MambaMixer(const MambaDims& dims, const RankContext& context, ColumnParallelLinear input,
             ColumnParallelLinear steps, RowParallelLinear output, Vectors vectors);

  MambaDims dims_;
  MambaShard shard_;
  Backend* backend_;
  ColumnParallelLinear input_;  // z | x | B | C | low-rank dt, the last whole on every rank
  ColumnParallelLinear steps_;  // low-rank dt to own channels
  RowParallelLinear output_;
  struct Vectors {
    ConvTensors conv;  // of own inner
    Tensor dt_bias;    // [own inner], twice the stored one
    Tensor a;          // [own groups, N, N]: -e^A_log as group, state, channel
    Tensor d;          // [own inner]
  } vectors_;
};

}  // namespace krait
