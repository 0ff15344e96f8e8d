#include "worker/models/cache_specs.h"

#include "worker/layers/mamba2_mixer.h"
#include "worker/layers/mamba_mixer.h"

namespace krait {

PagedKvSpec KvSpecOf(const ModelConfig& config, const Sharding& sharding, int page_size,
                     DType dtype) {
  return {.num_layers = config.num_attention_layers(),
          .kv_heads = static_cast<int>(sharding.kv_groups.size()),
          .head_dim = static_cast<int>(config.head_dim),
          .page_size = page_size,
          .dtype = dtype};
}

RecurrentStateSpec StateSpecOf(const ModelConfig& config, const Sharding& sharding,
                               int max_draft_tokens) {
  RecurrentStateSpec spec;
  for (const LayerKind kind : config.layers) {
    if (kind == LayerKind::kMamba1) {
      spec.layers.push_back(MambaMixer::Spec(*config.mamba1, sharding, max_draft_tokens));
    } else if (kind == LayerKind::kMamba2) {
      spec.layers.push_back(Mamba2Mixer::Spec(*config.mamba2, sharding, max_draft_tokens));
    }
  }
  return spec;
}

}  // namespace krait
