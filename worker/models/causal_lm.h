#pragma once

#include "absl/status/status.h"
#include "kernels/core/tensor.h"
#include "worker/cache/cache_spec.h"
#include "worker/layers/forward_context.h"

namespace krait {

class CacheStorage;

// One rank's share of a language model. Rank thread only.
class CausalLM {
 public:
  virtual ~CausalLM() = default;

  // What the caches must hold for this model on this rank.
  virtual PagedKvSpec KvSpec() const = 0;

  // Runs the batch through all layers, writing the new tokens' K and V into `cache`, and leaves in
  // `logits` [num_logits, vocab of this rank] f32 the logits of context.logits_rows. Fails only if
  // a peer is lost.
  virtual absl::Status Forward(const ForwardContext& context, CacheStorage& cache,
                               const TensorView& logits) = 0;
};

}  // namespace krait
