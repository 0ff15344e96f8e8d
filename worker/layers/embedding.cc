#include "worker/layers/embedding.h"

#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"
#include "kernels/core/bf16.h"
#include "worker/weights/weight_loader.h"

namespace krait {
namespace {

// `values` [n] into `table` in the table's type; exact, for they were rounded when they were read.
void Upload(const std::vector<float>& values, const TensorView& table, Backend* backend) {
  if (table.dtype == DType::kF32) {
    backend->CopyFromHost(values.data(), table);
    return;
  }
  CHECK(table.dtype == DType::kBF16);
  std::vector<Bf16> rounded(values.size());
  for (size_t i = 0; i < values.size(); ++i) rounded[i] = ToBf16(values[i]);
  backend->CopyFromHost(rounded.data(), table);
}

}  // namespace

absl::StatusOr<VocabParallelEmbedding> VocabParallelEmbedding::Load(const Checkpoint& checkpoint,
                                                                    const std::string& name,
                                                                    int64_t hidden_size,
                                                                    int64_t max_tokens,
                                                                    const RankContext& context) {
  const Sharding& sharding = context.sharding;
  const Range ids = sharding.vocab;
  ASSIGN_OR_RETURN(
      const std::vector<float> values,
      LoadMatrix(checkpoint,
                 WeightSlice::Rows(name, sharding.vocab_size, hidden_size, ids.begin, ids.end),
                 context.weight_dtype));
  ASSIGN_OR_RETURN(Tensor table,
                   context.backend->Allocate(context.weight_dtype, {ids.size(), hidden_size}));
  Upload(values, table.view(), context.backend);
  Tensor own_rows;
  if (!context.alone()) {
    ASSIGN_OR_RETURN(own_rows, context.backend->Allocate(DType::kF32, {max_tokens, hidden_size}));
  }
  return VocabParallelEmbedding(context, std::move(table), std::move(own_rows));
}

VocabParallelEmbedding::VocabParallelEmbedding(const RankContext& context, Tensor table,
                                               Tensor own_rows)
    : context_(context), table_(std::move(table)), own_rows_(std::move(own_rows)) {}

absl::Status VocabParallelEmbedding::Forward(const ForwardContext& pass,
                                             const TensorView& out) const {
  const bool alone = context_.alone();
  const TensorView rows = alone ? out : own_rows_.view().Rows(0, pass.num_tokens);
  context_.backend->Embedding({.table = table_.view(),
                               .ids = pass.token_ids,
                               .sources = pass.token_sources,
                               .drawn = pass.drawn,
                               .first_id = static_cast<int32_t>(context_.sharding.vocab.begin),
                               .out = rows});
  if (alone) return absl::OkStatus();
  return context_.comm->AllReduceSum(
      {.partials = TensorView(rows.data, DType::kF32, {1, pass.num_tokens, rows.dim(1)}),
       .first_block = context_.sharding.rank,
       .num_blocks = context_.sharding.num_ranks,
       .out = out});
}

absl::StatusOr<LmHead> LmHead::Load(const Checkpoint& checkpoint, const LmHeadSource& source,
                                    int64_t hidden_size, const RankContext& context) {
  const Range rows = OwnedVocab(source.num_rows, context.sharding.rank, context.sharding.num_ranks);
  VocabShard shard{.begin = static_cast<TokenId>(rows.begin),
                   .end = static_cast<TokenId>(rows.end)};
  if (!source.token_map.empty()) {
    CHECK_EQ(static_cast<int64_t>(source.token_map.size()), source.num_rows);
    shard.ids.assign(source.token_map.begin() + rows.begin, source.token_map.begin() + rows.end);
  }
  ASSIGN_OR_RETURN(const LinearSource linear,
                   MakeLinearSource(checkpoint,
                                    {WeightSlice::Rows(source.name, source.num_rows, hidden_size,
                                                       rows.begin, rows.end)},
                                    1, context.weight_dtype));
  ASSIGN_OR_RETURN(std::unique_ptr<LinearWeight> weight, context.backend->PrepareLinear(linear));
  return LmHead(context.backend, std::move(shard), std::move(weight));
}

LmHead::LmHead(Backend* backend, VocabShard shard, std::unique_ptr<LinearWeight> weight)
    : backend_(backend), shard_(std::move(shard)), weight_(std::move(weight)) {}

void LmHead::Forward(const TensorView& x, const TensorView& logits) const {
  backend_->Linear({.x = x, .weight = weight_.get(), .y = logits});
}

}  // namespace krait
