#include "worker/layers/attention.h"

#include <cmath>
#include <utility>

#include "common/status_macros.h"

namespace krait {

absl::StatusOr<Attention> Attention::Load(const Checkpoint& checkpoint, const AttentionNames& names,
                                          const AttentionDims& dims, const RankContext& context) {
  ASSIGN_OR_RETURN(QkvParallelLinear qkv,
                   QkvParallelLinear::Load(checkpoint, names.qkv, dims, context));
  const BlockCut cut{.num_blocks = dims.num_kv_heads,
                     .block_size = dims.heads_per_group() * dims.head_dim,
                     .own = context.sharding.kv_groups};
  ASSIGN_OR_RETURN(RowParallelLinear output,
                   RowParallelLinear::Load(checkpoint, names.o, dims.hidden_size, cut, context));
  return Attention(context.backend, std::move(qkv), std::move(output), dims);
}

Attention::Attention(Backend* backend, QkvParallelLinear qkv, RowParallelLinear output,
                     const AttentionDims& dims)
    : backend_(backend),
      qkv_(std::move(qkv)),
      output_(std::move(output)),
      scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(dims.head_dim)))),
      window_(dims.window) {}

absl::Status Attention::Forward(const ForwardContext& context, const RotaryTables& rotary,
                                KvPages pages, const TensorView& x, const Activations& activations,
                                const TensorView& hidden) const {
  const TensorView qkv = activations.projected(context.num_tokens, qkv_.width());
  qkv_.Forward(x, qkv);
  backend_->RotateAppend({.q = qkv_.Query(qkv),
                          .k = qkv_.Key(qkv),
                          .v = qkv_.Value(qkv),
                          .positions = context.positions,
                          .cos = rotary.cos(),
                          .sin = rotary.sin(),
                          .slots = context.slot_mapping,
                          .k_cache = pages.keys,
                          .v_cache = pages.values});
  const TensorView out = activations.mixed(context.num_tokens, qkv_.query_width());
  Attend(context, pages, qkv_.Query(qkv), out);
  return output_.Forward(out, hidden, activations.mixer_partials(), hidden);
}

void Attention::Attend(const ForwardContext& context, KvPages pages, const TensorView& query,
                       const TensorView& out) const {
  backend_->PagedAttention({.q = query,
                            .k_cache = pages.keys,
                            .v_cache = pages.values,
                            .num_sequences = context.num_sequences,
                            .query_start = context.query_start,
                            .positions = context.positions,
                            .page_table = context.page_table,
                            .page_table_stride = context.page_table_stride,
                            .scale = scale_,
                            .window = window_,
                            .out = out});
}

}  // namespace krait
