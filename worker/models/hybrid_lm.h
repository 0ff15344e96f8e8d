#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/layers/activations.h"
#include "worker/layers/attention.h"
#include "worker/layers/embedding.h"
#include "worker/layers/mamba2_mixer.h"
#include "worker/layers/mamba_mixer.h"
#include "worker/layers/mlp.h"
#include "worker/layers/rms_norm.h"
#include "worker/layers/rotary.h"
#include "worker/models/causal_lm.h"
#include "worker/models/model_config.h"
#include "worker/models/model_registry.h"

namespace krait {

// Pre-norm layers, each a mixer and a gated MLP. A mixer is rotary grouped-query attention, Mamba1
// or Mamba2. The Llama family (arXiv 2302.13971) has attention alone, with a sliding window in
// Mistral and biases of q, k and v in Qwen2; hybrids (arXiv 2408.15237) have any mix. Rank thread
// only.
class HybridLm final : public CausalLM {
 public:
  // INVALID_ARGUMENT names tensor and reason; RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<CausalLM>> Load(const ModelInputs& inputs);

  PagedKvSpec KvSpec() const override;
  RecurrentStateSpec StateSpec() const override { return state_spec_; }
  const VocabShard& vocab_shard() const override { return head_.shard(); }
  int64_t weight_bytes() const override;
  int64_t embedding_bytes() const override;
  absl::Status Forward(const ForwardContext& context, CacheStorage& cache, StateStorage* states,
                       const TensorView& logits) override;

 private:
  using Mixer = std::variant<Attention, MambaMixer, Mamba2Mixer>;
  struct Layer {
    RmsNorm input_norm;
    Mixer mixer;
    int cache_index;  // among the layers of attention, or among the recurrent ones
    RmsNorm post_attention_norm;
    Mlp mlp;
  };
  struct Parts;

  explicit HybridLm(Parts parts);
  static absl::StatusOr<Layer> LoadLayer(const ModelInputs& inputs, int index);

  static absl::StatusOr<Mixer> LoadMixer(const ModelInputs& inputs, int index);

  absl::Status RunLayer(const Layer& layer, const ForwardContext& context, CacheStorage& cache,
                        StateStorage* states);
  absl::Status RunMixer(const Layer& layer, const ForwardContext& context, CacheStorage& cache,
                        StateStorage* states, const TensorView& x, const TensorView& hidden) const;
  void ComputeLogits(const ForwardContext& context, const TensorView& logits);

  const PagedKvSpec kv_spec_;
  const RecurrentStateSpec state_spec_;
  Backend* const backend_;
  const VocabParallelEmbedding embedding_;
  const std::vector<Layer> layers_;
  const RmsNorm final_norm_;
  const LmHead head_;
  const RotaryTables rotary_;
  const Activations activations_;
};

}  // namespace krait
