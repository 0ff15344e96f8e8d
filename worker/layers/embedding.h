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

// Token embedding, its rows spread over ranks. A rank has -0 where another owns the row, so the sum
// over ranks is that row to the signs of its zeros, at every degree. Rank thread only.
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
  VocabParallelEmbedding(const RankContext& context, Tensor table, Tensor own_rows);

  RankContext context_;
  Tensor table_;     // [own ids, hidden_size], f32 or bf16
  Tensor own_rows_;  // [max_tokens, hidden_size]: what goes into the sum; empty for a group of one
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
