#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/layers/forward_context.h"
#include "worker/layers/rank_context.h"
#include "worker/sampling/shard_sampler.h"
#include "worker/weights/checkpoint.h"

namespace krait {

// Token embedding, its rows spread over ranks. A token's row is taken from the rank that owns it,
// not summed over ranks, so even its signed zeros are the same at every degree. Rank thread only.
class VocabParallelEmbedding {
 public:
  // Loads this rank's rows of tensor `name` [vocab_size, hidden_size]. `max_tokens`: of one pass.
  // NOT_FOUND or INVALID_ARGUMENT names the tensor, RESOURCE_EXHAUSTED the bytes.
  static absl::StatusOr<VocabParallelEmbedding> Load(const Checkpoint& checkpoint,
                                                     const std::string& name, int64_t hidden_size,
                                                     int64_t max_tokens,
                                                     const RankContext& context);

  // Of the pass's tokens: out [num_tokens, hidden_size], f32. UNAVAILABLE if a peer is lost.
  absl::Status Forward(const ForwardContext& pass, const TensorView& out) const;
  int64_t num_bytes() const { return table_.num_bytes(); }

 private:
  VocabParallelEmbedding(const RankContext& context, Tensor table, Tensor gathered,
                         int64_t max_tokens);
  absl::Status GatherRows(const int32_t* token_ids, int64_t num_tokens,
                          const TensorView& out) const;

  RankContext context_;
  Tensor table_;     // [own ids, hidden_size], f32 or bf16
  Tensor gathered_;  // [ranks * max_tokens, hidden_size]; empty for a group of one
  mutable std::vector<int32_t> sources_;  // [max_tokens]: each token's row of gathered_
};

// Where a head's rows come from.
struct LmHeadSource {
  std::string name;                // [num_rows, hidden_size]; the embedding's own if they are tied
  int64_t num_rows = 0;            // the vocabulary's size, or a reduced head's
  std::vector<TokenId> token_map;  // target id of each row of a reduced head; empty: all ids
};

// Logits of this rank's rows of the vocabulary. Rank thread only.
class LmHead {
 public:
  static absl::StatusOr<LmHead> Load(const Checkpoint& checkpoint, const LmHeadSource& source,
                                     int64_t hidden_size, const RankContext& context);

  // x [num_rows, hidden_size], logits [num_rows, shard().size()], f32.
  void Forward(const TensorView& x, const TensorView& logits) const;
  const VocabShard& shard() const { return shard_; }
  int64_t num_bytes() const { return weight_->num_bytes(); }

 private:
  LmHead(Backend* backend, VocabShard shard, std::unique_ptr<LinearWeight> weight);

  Backend* backend_;
  VocabShard shard_;
  std::unique_ptr<LinearWeight> weight_;
};

}  // namespace krait
