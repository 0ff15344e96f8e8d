#pragma once

#include "worker/cache/cache_spec.h"
#include "worker/layers/sharding.h"
#include "worker/models/model_config.h"

namespace krait {

// What a rank's caches hold for a model, known before any of it is loaded.
PagedKvSpec KvSpecOf(const ModelConfig& config, const Sharding& sharding, int page_size,
                     DType dtype);
// `max_draft_tokens`: of a sequence at a time. Empty without recurrent layers.
RecurrentStateSpec StateSpecOf(const ModelConfig& config, const Sharding& sharding,
                               int max_draft_tokens);

}  // namespace krait
