#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/layers/activations.h"
#include "worker/layers/forward_context.h"
#include "worker/layers/linear.h"
#include "worker/layers/rotary.h"

namespace krait {

struct AttentionNames {
  QkvNames qkv;
  LinearNames o;
};

// One layer's KV pages on this rank.
struct KvPages {
  TensorView keys;    // [num_pages, own KV heads, page_size, head_dim], f32
  TensorView values;  // same
};

// Grouped-query attention over paged K and V with rotary positions (arXiv 2305.13245): a rank's
// whole KV groups, each group one block of o_proj's sum. With a sliding window (arXiv 2310.06825) a
// token sees the last dims.window positions, its own included. Rank thread only.
class Attention {
 public:
  static absl::StatusOr<Attention> Load(const Checkpoint& checkpoint, const AttentionNames& names,
                                        const AttentionDims& dims, const RankContext& context);

  // hidden += attention(x); writes the new tokens' K and V into `pages`. x and hidden
  // [num_tokens, hidden_size]. UNAVAILABLE if a peer is lost.
  absl::Status Forward(const ForwardContext& context, const RotaryTables& rotary, KvPages pages,
                       const TensorView& x, const Activations& activations,
                       const TensorView& hidden) const;
  int64_t num_bytes() const { return qkv_.num_bytes() + output_.num_bytes(); }

 private:
  Attention(Backend* backend, QkvParallelLinear qkv, RowParallelLinear output,
            const AttentionDims& dims);
  void Attend(const ForwardContext& context, KvPages pages, const TensorView& query,
              const TensorView& out) const;

  Backend* backend_;
  QkvParallelLinear qkv_;
  RowParallelLinear output_;
  float scale_;
  int64_t window_;
};

}  // namespace krait
