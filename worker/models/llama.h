#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/layers/activations.h"
#include "worker/layers/attention.h"
#include "worker/layers/embedding.h"
#include "worker/layers/mlp.h"
#include "worker/layers/rms_norm.h"
#include "worker/layers/rotary.h"
#include "worker/models/causal_lm.h"
#include "worker/models/model_config.h"
#include "worker/models/model_registry.h"

namespace krait {

// The Llama family (arXiv 2302.13971): pre-norm layers of rotary grouped-query attention and a
// gated MLP; Mistral is one with a sliding window, Qwen2 one with biases of q, k and v. Rank thread
// only.
class Llama final : public CausalLM {
 public:
  // INVALID_ARGUMENT names tensor and reason; RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<CausalLM>> Load(const ModelInputs& inputs);

  PagedKvSpec KvSpec() const override;
  const VocabShard& vocab_shard() const override { return head_.shard(); }
  int64_t weight_bytes() const override;
  absl::Status Forward(const ForwardContext& context, CacheStorage& cache,
                       const TensorView& logits) override;

 private:
  struct Layer {
    RmsNorm input_norm;
    Attention attention;
    RmsNorm post_attention_norm;
    Mlp mlp;
  };
  struct Parts;

  explicit Llama(Parts parts);
  static absl::StatusOr<Layer> LoadLayer(const ModelInputs& inputs, int index);

  absl::Status RunLayer(const Layer& layer, const ForwardContext& context, KvPages pages);
  void ComputeLogits(const ForwardContext& context, const TensorView& logits);

  const PagedKvSpec kv_spec_;
  Backend* const backend_;
  const VocabParallelEmbedding embedding_;
  const std::vector<Layer> layers_;
  const RmsNorm final_norm_;
  const LmHead head_;
  const RotaryTables rotary_;
  const Activations activations_;
};

}  // namespace krait
