#include "worker/layers/mamba_mixer.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "worker/weights/weight_loader.h"

namespace krait {
namespace {

// The projections' segments in the order of the fused tensor's rows.
struct Segment {
  const char* name;  // of a tensor of its own
  int64_t size;
  Range own;
};

std::vector<Segment> Segments(const MambaDims& dims, const MambaShard& shard) {
  return {{"in_proj_z.weight", dims.inner_size, shard.inner},
          {"in_proj_x.weight", dims.xb_size, shard.xb},
          {"B_proj.weight", dims.xb_size, shard.xb},
          {"C_proj.weight", dims.inner_size, shard.inner},
          {"dt_proj_down.weight", dims.dt_rank, {0, dims.dt_rank}}};
}

absl::StatusOr<ColumnParallelLinear> LoadInput(const Checkpoint& checkpoint,
                                               const std::string& prefix, const MambaDims& dims,
                                               const MambaShard& shard,
                                               const RankContext& context) {
  const std::string fused = prefix + "in_proj.weight";
  const bool is_fused = checkpoint.Has(fused);
  const int64_t fused_rows = 2 * dims.inner_size + 2 * dims.xb_size + dims.dt_rank;
  std::vector<WeightSlice> parts;
  int64_t offset = 0;
  for (const Segment& segment : Segments(dims, shard)) {
    const int64_t from = is_fused ? offset : 0;
    parts.push_back(WeightSlice::Rows(is_fused ? fused : prefix + segment.name,
                                      is_fused ? fused_rows : segment.size, dims.hidden_size,
                                      from + segment.own.begin, from + segment.own.end));
    offset += segment.size;
  }
  return ColumnParallelLinear::Load(checkpoint, std::move(parts), {}, context);
}

// -e^A_log [channels, N] as the scan wants it: [groups, N, channel of the group].
absl::StatusOr<Tensor> LoadDecay(const Checkpoint& checkpoint, const std::string& name,
                                 const MambaDims& dims, Range channels, Backend* backend) {
  const int64_t n = dims.state_dim, groups = channels.size() / n;
  ASSIGN_OR_RETURN(const std::vector<float> a,
                   LoadNegativeExp(checkpoint, name, {dims.inner_size, n}, channels));
  std::vector<float> transposed(a.size());
  for (int64_t channel = 0; channel < channels.size(); ++channel) {
    for (int64_t state = 0; state < n; ++state) {
      transposed[(channel / n * n + state) * n + channel % n] = a[channel * n + state];
    }
  }
  return Upload(transposed, {groups, n, n}, backend);
}

// Added in the projection and again in the scan: 2 b, which is exact.
absl::StatusOr<Tensor> LoadTwiceDtBias(const Checkpoint& checkpoint, const std::string& name,
                                       const MambaDims& dims, Range channels,
                                       const RankContext& context) {
  ASSIGN_OR_RETURN(std::vector<float> bias, LoadVector(checkpoint, name, dims.inner_size,
                                                       channels.begin, channels.end, DType::kF32));
  for (float& value : bias) value *= 2;
  return Upload(bias, {channels.size()}, context.backend);
}

}  // namespace

absl::StatusOr<MambaMixer> MambaMixer::Load(const Checkpoint& checkpoint, const std::string& prefix,
                                            const MambaDims& dims, const RankContext& context) {
  const MambaShard shard(dims, context.sharding);
  const int64_t inner = dims.inner_size;
  ASSIGN_OR_RETURN(ColumnParallelLinear input, LoadInput(checkpoint, prefix, dims, shard, context));
  ASSIGN_OR_RETURN(
      ColumnParallelLinear steps,
      ColumnParallelLinear::Load(checkpoint,
                                 {WeightSlice::Rows(prefix + "dt_proj.weight", inner, dims.dt_rank,
                                                    shard.inner.begin, shard.inner.end)},
                                 {}, context));
  Vectors vectors;
  ASSIGN_OR_RETURN(vectors.conv, LoadConvolution(checkpoint, prefix, inner, dims.conv_taps,
                                                 {shard.inner}, context));
  ASSIGN_OR_RETURN(vectors.dt_bias, LoadTwiceDtBias(checkpoint, prefix + "dt_proj.bias", dims,
                                                    shard.inner, context));
  ASSIGN_OR_RETURN(vectors.d, LoadRanges(checkpoint, prefix + "D", inner, {shard.inner},
                                         /*rounded=*/false, context));
  ASSIGN_OR_RETURN(vectors.a,
                   LoadDecay(checkpoint, prefix + "A_log", dims, shard.inner, context.backend));
  ASSIGN_OR_RETURN(RowParallelLinear output, LoadMambaOutput(checkpoint, prefix, dims, context));
  return MambaMixer(dims, context, std::move(input), std::move(steps), std::move(output),
                    std::move(vectors));
}

MambaMixer::MambaMixer(const MambaDims& dims, const RankContext& context,
                       ColumnParallelLinear input, ColumnParallelLinear steps,
                       RowParallelLinear output, Vectors vectors)
    : dims_(dims),
      shard_(dims, context.sharding),
      backend_(context.backend),
      input_(std::move(input)),
      steps_(std::move(steps)),
      output_(std::move(output)),
      vectors_(std::move(vectors)) {}

RecurrentLayerSpec MambaMixer::Spec(const MambaDims& dims, const Sharding& sharding,
                                    int max_draft_tokens) {
  const MambaShard shard(dims, sharding);
  return {.state_elements = shard.inner.size() * dims.state_dim,
          .ring_length = std::max(1, max_draft_tokens),
          .ring_width = shard.xb.size() + shard.inner.size(),
          .conv_length = max_draft_tokens + dims.conv_taps - 1,
          .conv_width = shard.xb.size(),
          .fold_interval = 0};
}

int64_t MambaMixer::ProjectedWidth(const MambaDims& dims, const Sharding& sharding) {
  const MambaShard shard(dims, sharding);
  return 2 * shard.inner.size() + 2 * shard.xb.size() + dims.dt_rank;
}

int64_t MambaMixer::num_bytes() const {
  int64_t bytes =
      input_.num_bytes() + steps_.num_bytes() + output_.num_bytes() + vectors_.conv.num_bytes();
  for (const Tensor* each : {&vectors_.dt_bias, &vectors_.a, &vectors_.d}) {
    bytes += each->num_bytes();
  }
  return bytes;
}

absl::Status MambaMixer::Forward(const ForwardContext& context, const StateSlots& slots,
                                 const TensorView& x, const Activations& activations,
                                 const TensorView& hidden) const {
  const int64_t inner = shard_.inner.size(), xb = shard_.xb.size(), n = dims_.state_dim;
  const TensorView projected =
      activations.projected(context.num_tokens, 2 * inner + 2 * xb + dims_.dt_rank);
  input_.Forward(x, projected);
  const int64_t c = inner + 2 * xb, low_rank = c + inner;
  const TensorView dt = activations.steps(context.num_tokens);
  steps_.Forward(projected.Columns(low_rank, low_rank + dims_.dt_rank), dt);
  const int64_t num_slots = slots.state.dim(0);
  const TensorView mixed = activations.mixed(context.num_tokens, inner);
  backend_->SelectiveScan({.batch = context.recurrent,
                           .x = projected.Columns(inner, inner + xb),
                           .b = projected.Columns(inner + xb, c),
                           .c = projected.Columns(c, low_rank),
                           .dt = dt,
                           .z = projected.Columns(0, inner),
                           .conv_weight = vectors_.conv.weight.view(),
                           .conv_bias = vectors_.conv.bias.view(),
                           .dt_bias = vectors_.dt_bias.view(),
                           .a = vectors_.a.view(),
                           .d = vectors_.d.view(),
                           .state = slots.state.WithShape({num_slots, inner / n, n, n}),
                           .ring = slots.ring,
                           .conv_ring = slots.conv_ring,
                           .y = mixed,
                           .traffic = context.traffic});
  return output_.Forward(mixed, hidden, activations.mixer_partials(), hidden);
}

}  // namespace krait
