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

// A Mamba2 layer (arXiv 2405.21060; grouped, arXiv 2408.15237): z, x, B, C, dt projected from the
// input; convolution over x, B and C; the recurrence (kernels/ops/selective_state_update.h), x and
// B shared by the heads of a group; gated norm per head; output projection, each KV group one block
// of its sum. Rank thread only.
class Mamba2Mixer {
 public:
  // `prefix`: "model.layers.0.mamba.". INVALID_ARGUMENT or NOT_FOUND names the tensor,
  // RESOURCE_EXHAUSTED the bytes.
  static absl::StatusOr<Mamba2Mixer> Load(const Checkpoint& checkpoint, const std::string& prefix,
                                          const MambaDims& dims, const RankContext& context);

  // hidden += mixer(x); moves the sequences' states on. x and hidden [num_tokens, hidden_size].
  // UNAVAILABLE if a peer is lost.
  absl::Status Forward(const ForwardContext& context, const StateSlots& slots, const TensorView& x,
                       const Activations& activations, const TensorView& hidden) const;
  int64_t num_bytes() const;

  // What a rank keeps of a sequence. The fold interval follows from the bytes of the whole layer,
  // so it is the same at every degree.
  static RecurrentLayerSpec Spec(const MambaDims& dims, const Sharding& sharding,
                                 int max_draft_tokens);
  // Widths of the activations.
  static int64_t ProjectedWidth(const MambaDims& dims, const Sharding& sharding);
  static int64_t ConvolvedWidth(const MambaDims& dims, const Sharding& sharding);

 private:
  struct Vectors;

  Mamba2Mixer(const MambaDims& dims, const RankContext& context, ColumnParallelLinear input,
              RowParallelLinear output, Vectors vectors);

  MambaDims dims_;
  MambaShard shard_;
  Backend* backend_;
  int fold_interval_;
  ColumnParallelLinear input_;  // z | x | B | C | dt
  RowParallelLinear output_;
  struct Vectors {
    ConvTensors conv;  // of own x | B | C
    Tensor dt_bias;    // [own heads]
    Tensor a;          // [own heads]: -e^A_log
    Tensor d;          // [own heads]
    Tensor norm;       // [own inner]
  } vectors_;
};

}  // namespace krait
