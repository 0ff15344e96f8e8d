#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/core/tensor.h"
#include "worker/cache/cache_spec.h"
#include "worker/layers/forward_context.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {

class CacheStorage;
class StateStorage;

// One rank's share of a language model. Rank thread only.
class CausalLM {
 public:
  virtual ~CausalLM() = default;

  // What the caches must hold for this model on this rank.
  virtual PagedKvSpec KvSpec() const = 0;
  virtual RecurrentStateSpec StateSpec() const = 0;  // empty: no recurrent layers
  // The part of the vocabulary whose logits this rank computes.
  virtual const VocabShard& vocab_shard() const = 0;
  // Of this rank's weights that every pass reads, whatever its rows: all but the embedding.
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t embedding_bytes() const = 0;  // of this rank

  // Runs the batch through all layers, writing the new tokens' K and V into `cache` and what they
  // change of recurrent states into `states` (null if StateSpec is empty), and leaves in `logits`
  // [num_logits, vocab of this rank] f32 the logits of context.logits_rows. Fails only if a peer is
  // lost.
  virtual absl::Status Forward(const ForwardContext& context, CacheStorage& cache,
                               StateStorage* states, const TensorView& logits) = 0;
};

}  // namespace krait
