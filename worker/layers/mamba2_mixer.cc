#include "worker/layers/mamba2_mixer.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "worker/weights/weight_loader.h"

namespace krait {
namespace {

// The gated norm's, whatever the model's other norms have (mamba_ssm's Mamba2).
constexpr float kNormEps = 1e-5f;

int64_t XbcSize(const MambaDims& dims) { return dims.inner_size + 2 * dims.xb_size; }

// Own x, B and C, of vectors over all of them.
std::vector<Range> XbcRanges(const MambaDims& dims, const MambaShard& shard) {
  return {shard.xb, shard.xb + dims.xb_size, shard.inner + 2 * dims.xb_size};
}

// Tokens between two folds: the power of two at which writing the state once and reading half the
// ring a step cost least together, at two tokens a step.
int FoldInterval(const MambaDims& dims) {
  const double state = static_cast<double>(dims.inner_size) * dims.state_dim;
  const double entry = static_cast<double>(2 * dims.xb_size + dims.num_heads());
  int best = 8;
  double best_cost = 0;
  for (int interval = 8; interval <= 32; interval *= 2) {
    const double cost = 2 * state / interval + entry * interval / 2;
    if (interval == 8 || cost < best_cost) best = interval, best_cost = cost;
  }
  return best;
}

absl::StatusOr<ColumnParallelLinear> LoadInput(const Checkpoint& checkpoint,
                                               const std::string& name, const MambaDims& dims,
                                               const MambaShard& shard,
                                               const RankContext& context) {
  const int64_t rows = 2 * dims.inner_size + 2 * dims.xb_size + dims.num_heads();
  std::vector<WeightSlice> parts;
  int64_t offset = 0;
  const auto add = [&](Range own, int64_t size) {
    parts.push_back(
        WeightSlice::Rows(name, rows, dims.hidden_size, offset + own.begin, offset + own.end));
    offset += size;
  };
  add(shard.inner, dims.inner_size);   // z
  add(shard.xb, dims.xb_size);         // x
  add(shard.xb, dims.xb_size);         // B
  add(shard.inner, dims.inner_size);   // C
  add(shard.heads, dims.num_heads());  // dt
  return ColumnParallelLinear::Load(checkpoint, std::move(parts), {}, context);
}

}  // namespace

absl::StatusOr<Mamba2Mixer> Mamba2Mixer::Load(const Checkpoint& checkpoint,
                                              const std::string& prefix, const MambaDims& dims,
                                              const RankContext& context) {
  const MambaShard shard(dims, context.sharding);
  ASSIGN_OR_RETURN(ColumnParallelLinear input,
                   LoadInput(checkpoint, prefix + "in_proj.weight", dims, shard, context));
  Vectors vectors;
  ASSIGN_OR_RETURN(vectors.conv, LoadConvolution(checkpoint, prefix, XbcSize(dims), dims.conv_taps,
                                                 XbcRanges(dims, shard), context));
  const int64_t heads = dims.num_heads();
  ASSIGN_OR_RETURN(vectors.dt_bias, LoadRanges(checkpoint, prefix + "dt_bias", heads, {shard.heads},
                                               /*rounded=*/false, context));
  ASSIGN_OR_RETURN(vectors.d, LoadRanges(checkpoint, prefix + "D", heads, {shard.heads},
                                         /*rounded=*/false, context));
  ASSIGN_OR_RETURN(vectors.norm,
                   LoadRanges(checkpoint, prefix + "norm.weight", dims.inner_size, {shard.inner},
                              /*rounded=*/true, context));
  ASSIGN_OR_RETURN(const std::vector<float> a,
                   LoadNegativeExp(checkpoint, prefix + "A_log", {heads}, shard.heads));
  ASSIGN_OR_RETURN(vectors.a, Upload(a, {shard.heads.size()}, context.backend));
  ASSIGN_OR_RETURN(RowParallelLinear output, LoadMambaOutput(checkpoint, prefix, dims, context));
  return Mamba2Mixer(dims, context, std::move(input), std::move(output), std::move(vectors));
}

Mamba2Mixer::Mamba2Mixer(const MambaDims& dims, const RankContext& context,
                         ColumnParallelLinear input, RowParallelLinear output, Vectors vectors)
    : dims_(dims),
      shard_(dims, context.sharding),
      backend_(context.backend),
      fold_interval_(FoldInterval(dims)),
      input_(std::move(input)),
      output_(std::move(output)),
      vectors_(std::move(vectors)) {}

RecurrentLayerSpec Mamba2Mixer::Spec(const MambaDims& dims, const Sharding& sharding,
                                     int max_draft_tokens) {
  const MambaShard shard(dims, sharding);
  const int interval = FoldInterval(dims);
  return {.state_elements = shard.inner.size() * dims.state_dim,
          .ring_length = interval - 1 + std::max(1, max_draft_tokens),
          .ring_width = 2 * shard.xb.size() + shard.heads.size(),
          .conv_length = max_draft_tokens + dims.conv_taps - 1,
          .conv_width = ConvolvedWidth(dims, sharding),
          .fold_interval = interval};
}

int64_t Mamba2Mixer::ConvolvedWidth(const MambaDims& dims, const Sharding& sharding) {
  const MambaShard shard(dims, sharding);
  return 2 * shard.xb.size() + shard.inner.size();
}

int64_t Mamba2Mixer::ProjectedWidth(const MambaDims& dims, const Sharding& sharding) {
  const MambaShard shard(dims, sharding);
  return shard.inner.size() + ConvolvedWidth(dims, sharding) + shard.heads.size();
}

int64_t Mamba2Mixer::num_bytes() const {
  int64_t bytes = input_.num_bytes() + output_.num_bytes() + vectors_.conv.num_bytes();
  for (const Tensor* each : {&vectors_.dt_bias, &vectors_.a, &vectors_.d, &vectors_.norm}) {
    bytes += each->num_bytes();
  }
  return bytes;
}

absl::Status Mamba2Mixer::Forward(const ForwardContext& context, const StateSlots& slots,
                                  const TensorView& x, const Activations& activations,
                                  const TensorView& hidden) const {
  const int64_t inner = shard_.inner.size(), heads = shard_.heads.size();
  const int64_t xbc = inner + 2 * shard_.xb.size();
  const TensorView projected = activations.projected(context.num_tokens, inner + xbc + heads);
  input_.Forward(x, projected);
  const TensorView convolved = activations.convolved(context.num_tokens);
  backend_->CausalConv1d({.batch = context.recurrent,
                          .x = projected.Columns(inner, inner + xbc),
                          .weight = vectors_.conv.weight.view(),
                          .bias = vectors_.conv.bias.view(),
                          .ring = slots.conv_ring,
                          .out = convolved,
                          .traffic = context.traffic});
  const int64_t num_slots = slots.state.dim(0), n = dims_.state_dim;
  const TensorView mixed = activations.mixed(context.num_tokens, inner);
  // In the place of x and B, which the convolution has read.
  const TensorView y = projected.Columns(inner, 2 * inner);
  backend_->SelectiveStateUpdate({.batch = context.recurrent,
                                  .xbc = convolved,
                                  .dt = projected.Columns(inner + xbc, inner + xbc + heads),
                                  .dt_bias = vectors_.dt_bias.view(),
                                  .a = vectors_.a.view(),
                                  .d = vectors_.d.view(),
                                  .state = slots.state.WithShape({num_slots, heads, n, n}),
                                  .ring = slots.ring,
                                  .fold_interval = fold_interval_,
                                  .y = y,
                                  .traffic = context.traffic});
  backend_->GatedRmsNorm({.y = y,
                          .z = projected.Columns(0, inner),
                          .weight = vectors_.norm.view(),
                          .group_size = n,
                          .eps = kNormEps,
                          .out = mixed});
  return output_.Forward(mixed, hidden, activations.mixer_partials(), hidden);
}

}  // namespace krait
