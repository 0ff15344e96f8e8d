#include "worker/layers/linear.h"

#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// Rows `rows` of a projection to `n` outputs, into what ColumnParallelLinear::Load takes.
struct ColumnParts {
  std::vector<WeightSlice> weights;
  std::vector<VectorSlice> biases;

  void Add(const LinearNames& names, int64_t n, int64_t k, Range rows) {
    weights.push_back(WeightSlice::Rows(names.weight, n, k, rows.begin, rows.end));
    if (!names.bias.empty()) biases.push_back({names.bias, n, rows});
    CHECK(biases.empty() || biases.size() == weights.size()) << names.weight;
  }
};

}  // namespace

absl::StatusOr<ColumnParallelLinear> ColumnParallelLinear::Load(
    const Checkpoint& checkpoint, std::vector<WeightSlice> parts,
    const std::vector<VectorSlice>& biases, const RankContext& context) {
  ASSIGN_OR_RETURN(const LinearSource source,
                   MakeLinearSource(checkpoint, std::move(parts), 1, context.weight_dtype));
  ASSIGN_OR_RETURN(std::unique_ptr<LinearWeight> weight, context.backend->PrepareLinear(source));
  ASSIGN_OR_RETURN(Bias bias, Bias::Load(checkpoint, biases, context));
  return ColumnParallelLinear(context.backend, std::move(weight), std::move(bias));
}

ColumnParallelLinear::ColumnParallelLinear(Backend* backend, std::unique_ptr<LinearWeight> weight,
                                           Bias bias)
    : backend_(backend), weight_(std::move(weight)), bias_(std::move(bias)) {}

void ColumnParallelLinear::Forward(const TensorView& x, const TensorView& y) const {
  backend_->Linear({.x = x, .weight = weight_.get(), .y = y});
  bias_.AddTo(y);
}

absl::StatusOr<QkvParallelLinear> QkvParallelLinear::Load(const Checkpoint& checkpoint,
                                                          const QkvNames& names,
                                                          const AttentionDims& dims,
                                                          const RankContext& context) {
  const Range kv_rows = context.sharding.kv_groups * dims.head_dim;
  const Range q_rows = kv_rows * dims.heads_per_group();
  const int64_t q_size = dims.num_heads * dims.head_dim;
  const int64_t kv_size = dims.num_kv_heads * dims.head_dim;
  const int64_t k = dims.hidden_size;
  ColumnParts parts;
  if (names.fused.empty()) {
    parts.Add(names.q, q_size, k, q_rows);
    parts.Add(names.k, kv_size, k, kv_rows);
    parts.Add(names.v, kv_size, k, kv_rows);
  } else {
    const LinearNames fused{.weight = names.fused};
    parts.Add(fused, q_size + 2 * kv_size, k, q_rows);
    parts.Add(fused, q_size + 2 * kv_size, k, kv_rows + q_size);
    parts.Add(fused, q_size + 2 * kv_size, k, kv_rows + (q_size + kv_size));
  }
  ASSIGN_OR_RETURN(
      ColumnParallelLinear linear,
      ColumnParallelLinear::Load(checkpoint, std::move(parts.weights), parts.biases, context));
  return QkvParallelLinear(std::move(linear), dims, context.sharding.kv_groups.size());
}

QkvParallelLinear::QkvParallelLinear(ColumnParallelLinear linear, const AttentionDims& dims,
                                     int64_t num_kv_heads)
    : linear_(std::move(linear)),
      num_heads_(num_kv_heads * dims.heads_per_group()),
      num_kv_heads_(num_kv_heads),
      head_dim_(dims.head_dim) {}

TensorView QkvParallelLinear::Heads(const TensorView& qkv, int64_t first, int64_t count) const {
  return qkv.Columns(first * head_dim_, (first + count) * head_dim_)
      .WithShape({qkv.dim(0), count, head_dim_});
}

TensorView QkvParallelLinear::Query(const TensorView& qkv) const {
  return Heads(qkv, 0, num_heads_);
}

TensorView QkvParallelLinear::Key(const TensorView& qkv) const {
  return Heads(qkv, num_heads_, num_kv_heads_);
}

TensorView QkvParallelLinear::Value(const TensorView& qkv) const {
  return Heads(qkv, num_heads_ + num_kv_heads_, num_kv_heads_);
}

absl::StatusOr<MergedColumnParallelLinear> MergedColumnParallelLinear::Load(
    const Checkpoint& checkpoint, const std::vector<LinearNames>& layers, int64_t n, Range rows,
    int64_t k, const RankContext& context) {
  ColumnParts parts;
  for (const LinearNames& names : layers) parts.Add(names, n, k, rows);
  ASSIGN_OR_RETURN(
      ColumnParallelLinear linear,
      ColumnParallelLinear::Load(checkpoint, std::move(parts.weights), parts.biases, context));
  return MergedColumnParallelLinear(std::move(linear));
}

absl::StatusOr<RowParallelLinear> RowParallelLinear::Load(const Checkpoint& checkpoint,
                                                          const LinearNames& names, int64_t n,
                                                          const BlockCut& cut,
                                                          const RankContext& context) {
  const Range columns = cut.own * cut.block_size;
  WeightSlice slice = WeightSlice::Columns(names.weight, n, cut.num_blocks * cut.block_size,
                                           columns.begin, columns.end);
  ASSIGN_OR_RETURN(
      const LinearSource source,
      MakeLinearSource(checkpoint, {std::move(slice)}, cut.own.size(), context.weight_dtype));
  ASSIGN_OR_RETURN(std::unique_ptr<LinearWeight> weight, context.backend->PrepareLinear(source));
  std::vector<VectorSlice> biases;
  if (!names.bias.empty()) biases.push_back({names.bias, n, {0, n}});
  ASSIGN_OR_RETURN(Bias bias, Bias::Load(checkpoint, biases, context));
  return RowParallelLinear(context, cut, std::move(weight), std::move(bias));
}

RowParallelLinear::RowParallelLinear(const RankContext& context, const BlockCut& cut,
                                     std::unique_ptr<LinearWeight> weight, Bias bias)
    : backend_(context.backend),
      comm_(context.comm),
      cut_(cut),
      sums_by_rank_(context.sums_by_rank()),
      n_(weight->n()),
      weight_(std::move(weight)),
      bias_(std::move(bias)) {}

absl::Status RowParallelLinear::Forward(const TensorView& x, const TensorView& residual,
                                        float* partials, const TensorView& out) const {
  RETURN_IF_ERROR(Reduce(x, residual, partials, out));
  bias_.AddTo(out);
  return absl::OkStatus();
}

absl::Status RowParallelLinear::Reduce(const TensorView& x, const TensorView& residual,
                                       float* partials, const TensorView& out) const {
  if (comm_->size() == 1) {
    backend_->Linear({.x = x, .weight = weight_.get(), .y = out, .residual = &residual});
    return comm_->CheckHealth();
  }
  BlockReduction reduction = Multiply(x, partials);
  reduction.residual = &residual;
  reduction.out = out;
  return comm_->AllReduceSum(reduction);
}

// This rank's part of the sum, as one block or as those of the model that it owns.
BlockReduction RowParallelLinear::Multiply(const TensorView& x, float* partials) const {
  const int64_t num_rows = x.dim(0);
  if (sums_by_rank_) {
    const TensorView sum(partials, DType::kF32, {num_rows, n_});
    backend_->Linear({.x = x, .weight = weight_.get(), .y = sum});
    return {.partials = TensorView(partials, DType::kF32, {1, num_rows, n_}),
            .first_block = comm_->rank(),
            .num_blocks = comm_->size()};
  }
  const TensorView sums(partials, DType::kF32, {cut_.own.size(), num_rows, n_});
  backend_->Linear({.x = x, .weight = weight_.get(), .y = sums, .partials = true});
  return {.partials = sums, .first_block = cut_.own.begin, .num_blocks = cut_.num_blocks};
}

}  // namespace krait
