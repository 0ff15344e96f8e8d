#include "worker/models/model_registry.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/models/hybrid_lm.h"
#include "worker/models/model_tensors.h"

namespace krait {
namespace {

struct ModelEntry {
  const char* architecture;
  absl::StatusOr<std::unique_ptr<CausalLM>> (*load)(const ModelInputs& inputs);
};

// To add an architecture: one line here, its fields in hugging_face_config.cc and gguf_config.cc, a
// file beside hybrid_lm.cc if no other computes the same.
constexpr ModelEntry kModels[] = {
    {"LlamaForCausalLM", &HybridLm::Load},
    {"MistralForCausalLM", &HybridLm::Load},
    {"Qwen2ForCausalLM", &HybridLm::Load},
};

}  // namespace

absl::StatusOr<std::unique_ptr<CausalLM>> MakeModel(const ModelInputs& inputs) {
  for (const ModelEntry& entry : kModels) {
    if (inputs.config.architecture != entry.architecture) continue;
    RETURN_IF_ERROR(CheckModelTensors(inputs.checkpoint, inputs.config));
    return entry.load(inputs);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("architecture ", inputs.config.architecture, " is not served"));
}

ShardingDims ShardingDimsOf(const ModelConfig& config) {
  return {.num_kv_groups = config.num_kv_heads,
          .intermediate_size = config.intermediate_size,
          .vocab_size = config.vocab_size};
}

}  // namespace krait
