#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/layers/bias.h"
#include "worker/layers/rank_context.h"
#include "worker/weights/weight_loader.h"

namespace krait {

// A layer's matrix and what is added to its product.
struct LinearNames {
  std::string weight;
  std::string bias;  // empty: none
};

// y = x W^T + bias with the output dimension spread over ranks: x is whole, y is this rank's part,
// and no rank waits for another. Rank thread only.
class ColumnParallelLinear {
 public:
  // W is `parts` stacked: each part of a fused projection is cut on its own, never the whole.
  // `biases`: as many rows in the same order, or empty.
  static absl::StatusOr<ColumnParallelLinear> Load(const Checkpoint& checkpoint,
                                                   std::vector<WeightSlice> parts,
                                                   const std::vector<VectorSlice>& biases,
                                                   const RankContext& context);

  // x [num_rows, k], y [num_rows, n], f32, rows may be strided.
  void Forward(const TensorView& x, const TensorView& y) const;
  int64_t n() const { return weight_->n(); }
  int64_t num_bytes() const { return weight_->num_bytes() + bias_.num_bytes(); }

 private:
  ColumnParallelLinear(Backend* backend, std::unique_ptr<LinearWeight> weight, Bias bias);

  Backend* backend_;
  std::unique_ptr<LinearWeight> weight_;
  Bias bias_;
};

// Projections to query, key and value in one product. A rank owns whole KV groups: their query
// heads, one key and one value head each.
struct QkvNames {
  LinearNames q, k, v;  // biases: of all three, or of none
  std::string fused;    // q, k and v stacked in one tensor without biases, instead
};
struct AttentionDims {
  int64_t hidden_size = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t window = 0;  // positions a token sees; 0: all

  int64_t heads_per_group() const { return num_heads / num_kv_heads; }
};
class QkvParallelLinear {
 public:
  static absl::StatusOr<QkvParallelLinear> Load(const Checkpoint& checkpoint, const QkvNames& names,
                                                const AttentionDims& dims,
                                                const RankContext& context);

  // x [num_rows, hidden], qkv [num_rows, width()].
  void Forward(const TensorView& x, const TensorView& qkv) const { linear_.Forward(x, qkv); }
  // Views of `qkv`: [num_rows, own heads, head_dim], [num_rows, own KV heads, head_dim].
  TensorView Query(const TensorView& qkv) const;
  TensorView Key(const TensorView& qkv) const;
  TensorView Value(const TensorView& qkv) const;
  int64_t width() const { return linear_.n(); }
  int64_t query_width() const { return num_heads_ * head_dim_; }
  int64_t num_heads() const { return num_heads_; }
  int64_t num_bytes() const { return linear_.num_bytes(); }

 private:
  QkvParallelLinear(ColumnParallelLinear linear, const AttentionDims& dims, int64_t num_kv_heads);
  TensorView Heads(const TensorView& qkv, int64_t first, int64_t count) const;

  ColumnParallelLinear linear_;
  int64_t num_heads_;     // of this rank
  int64_t num_kv_heads_;  // of this rank
  int64_t head_dim_;
};

// Several projections of the same input and the same cut in one product: an MLP's gate and up.
class MergedColumnParallelLinear {
 public:
  // Rows `rows` of each of `layers` [n, k], with biases all or none; y is
  // [num_rows, layers.size() * rows.size()].
  static absl::StatusOr<MergedColumnParallelLinear> Load(const Checkpoint& checkpoint,
                                                         const std::vector<LinearNames>& layers,
                                                         int64_t n, Range rows, int64_t k,
                                                         const RankContext& context);
  void Forward(const TensorView& x, const TensorView& y) const { linear_.Forward(x, y); }
  int64_t num_bytes() const { return linear_.num_bytes(); }

 private:
  explicit MergedColumnParallelLinear(ColumnParallelLinear linear) : linear_(std::move(linear)) {}

  ColumnParallelLinear linear_;
};

// How the reduced dimension of a row-parallel product is cut: `num_blocks` equal blocks of the
// model, of which this rank owns `own`.
struct BlockCut {
  int64_t num_blocks = 1;
  int64_t block_size = 0;
  Range own;
};

// out = residual + x W^T + bias with the reduced dimension spread over ranks: x is this rank's
// part, out is whole and, unless RankContext::sums_by_rank, has the same bits at every degree
// (BlockReduction). Rank thread only.
class RowParallelLinear {
 public:
  // The weight is [n, num_blocks * block_size], the bias [n]; every rank adds the whole bias once,
  // after the sum over ranks.
  static absl::StatusOr<RowParallelLinear> Load(const Checkpoint& checkpoint,
                                                const LinearNames& names, int64_t n,
                                                const BlockCut& cut, const RankContext& context);

  // x [num_rows, own part of k], residual and out [num_rows, n], f32; out may be residual.
  // `partials`: at least PartialElements(num_rows) floats that nobody touches until this rank's
  // next exchange is over; not used by a group of one. UNAVAILABLE if a peer is lost.
  absl::Status Forward(const TensorView& x, const TensorView& residual, float* partials,
                       const TensorView& out) const;
  int64_t PartialElements(int64_t num_rows) const {
    return (sums_by_rank_ ? 1 : cut_.own.size()) * num_rows * n_;
  }
  int64_t num_bytes() const { return weight_->num_bytes() + bias_.num_bytes(); }

 private:
  RowParallelLinear(const RankContext& context, const BlockCut& cut,
                    std::unique_ptr<LinearWeight> weight, Bias bias);
  absl::Status Reduce(const TensorView& x, const TensorView& residual, float* partials,
                      const TensorView& out) const;
  BlockReduction Multiply(const TensorView& x, float* partials) const;

  Backend* backend_;
  Communicator* comm_;
  BlockCut cut_;
  bool sums_by_rank_;
  int64_t n_;
  std::unique_ptr<LinearWeight> weight_;
  Bias bias_;
};

}  // namespace krait
