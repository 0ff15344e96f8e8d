#include "worker/models/hybrid_lm.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/cache/cache_storage.h"
#include "worker/cache/state_storage.h"
#include "worker/models/cache_specs.h"
#include "worker/models/hybrid_layers.h"

namespace krait {
namespace {

AttentionDims AttentionDimsOf(const ModelConfig& config) {
  return {.hidden_size = config.hidden_size,
          .num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .window = config.sliding_window};
}

LinearNames NamesOf(const std::string& module, bool has_bias) {
  return {.weight = module + ".weight", .bias = has_bias ? module + ".bias" : ""};
}

AttentionNames AttentionNamesOf(const ModelConfig& config, const std::string& layer) {
  if (config.fused_attention) {
    return {.qkv = {.fused = layer + "mha.in_proj.weight"},
            .o = {.weight = layer + "mha.out_proj.weight"}};
  }
  return {.qkv = {.q = NamesOf(layer + "self_attn.q_proj", config.qkv_bias),
                  .k = NamesOf(layer + "self_attn.k_proj", config.qkv_bias),
                  .v = NamesOf(layer + "self_attn.v_proj", config.qkv_bias)},
          .o = NamesOf(layer + "self_attn.o_proj", config.attention_output_bias)};
}

MlpNames MlpNamesOf(const ModelConfig& config, const std::string& layer) {
  return {.gate = NamesOf(layer + "mlp.gate_proj", config.mlp_bias),
          .up = NamesOf(layer + "mlp.up_proj", config.mlp_bias),
          .down = NamesOf(layer + "mlp.down_proj", config.mlp_bias)};
}

ActivationDims ActivationDimsOf(const ModelInputs& inputs) {
  const ModelConfig& config = inputs.config;
  const Sharding& sharding = inputs.context.sharding;
  const int64_t kv_width = sharding.kv_groups.size() * config.head_dim;
  const int64_t q_width = kv_width * (config.num_heads / config.num_kv_heads);
  const bool alone = inputs.context.alone(), by_rank = inputs.context.sums_by_rank();
  ActivationDims dims{
      .max_tokens = inputs.max_tokens,
      .max_logits = inputs.max_logits,
      .hidden_size = config.hidden_size,
      .projected_width = q_width + 2 * kv_width,
      .mixed_width = q_width,
      .intermediate = sharding.intermediate().size(),
      .mixer_blocks = alone ? 0 : by_rank ? 1 : sharding.kv_groups.size(),
      .mlp_blocks = alone ? 0 : by_rank ? 1 : sharding.mlp_blocks.size(),
      .linear_input = inputs.context.backend->linear_input(inputs.context.weight_dtype)};
  const auto widen = [&](int64_t projected, const MambaDims& mamba) {
    dims.projected_width = std::max(dims.projected_width, projected);
    dims.mixed_width = std::max(dims.mixed_width, MambaShard(mamba, sharding).inner.size());
  };
  if (config.mamba1) {
    widen(MambaMixer::ProjectedWidth(*config.mamba1, sharding), *config.mamba1);
    dims.steps_width = MambaShard(*config.mamba1, sharding).inner.size();
  }
  if (config.mamba2) {
    widen(Mamba2Mixer::ProjectedWidth(*config.mamba2, sharding), *config.mamba2);
    dims.convolved_width = Mamba2Mixer::ConvolvedWidth(*config.mamba2, sharding);
  }
  return dims;
}

// Of layer `index`, among the layers that share its kind of cache.
int CacheIndex(const ModelConfig& config, int index) {
  const bool attention = config.layers[index] == LayerKind::kAttention;
  return static_cast<int>(
      std::count_if(config.layers.begin(), config.layers.begin() + index,
                    [&](LayerKind kind) { return (kind == LayerKind::kAttention) == attention; }));
}

int64_t BytesOf(const std::variant<Attention, MambaMixer, Mamba2Mixer>& mixer) {
  return std::visit([](const auto& each) { return each.num_bytes(); }, mixer);
}

absl::StatusOr<LmHead> LoadHead(const ModelInputs& inputs) {
  const ModelConfig& config = inputs.config;
  ASSIGN_OR_RETURN(std::vector<TokenId> token_map, config.LoadDraftTokenMap(inputs.checkpoint));
  const LmHeadSource source{.name = config.tie_word_embeddings ? kEmbeddingName : kHeadName,
                            .num_rows = config.head_rows(),
                            .token_map = std::move(token_map)};
  return LmHead::Load(inputs.checkpoint, source, config.hidden_size, inputs.context);
}

}  // namespace

struct HybridLm::Parts {
  PagedKvSpec kv_spec;
  RecurrentStateSpec state_spec;
  Backend* backend;
  VocabParallelEmbedding embedding;
  std::vector<Layer> layers;
  RmsNorm final_norm;
  LmHead head;
  RotaryTables rotary;
  Activations activations;
};

HybridLm::HybridLm(Parts parts)
    : kv_spec_(parts.kv_spec),
      state_spec_(std::move(parts.state_spec)),
      backend_(parts.backend),
      embedding_(std::move(parts.embedding)),
      layers_(std::move(parts.layers)),
      final_norm_(std::move(parts.final_norm)),
      head_(std::move(parts.head)),
      rotary_(std::move(parts.rotary)),
      activations_(std::move(parts.activations)) {}

absl::StatusOr<HybridLm::Mixer> HybridLm::LoadMixer(const ModelInputs& inputs, int index) {
  const ModelConfig& config = inputs.config;
  switch (config.layers[index]) {
    case LayerKind::kMamba1:
      return MambaMixer::Load(inputs.checkpoint, MambaPrefix(index), *config.mamba1,
                              inputs.context);
    case LayerKind::kMamba2:
      return Mamba2Mixer::Load(inputs.checkpoint, MambaPrefix(index), *config.mamba2,
                               inputs.context);
    case LayerKind::kAttention:
      break;
  }
  return Attention::Load(inputs.checkpoint,
                         AttentionNamesOf(config, absl::StrCat("model.layers.", index, ".")),
                         AttentionDimsOf(config), inputs.context);
}

absl::StatusOr<HybridLm::Layer> HybridLm::LoadLayer(const ModelInputs& inputs, int index) {
  const ModelConfig& config = inputs.config;
  const std::string name = absl::StrCat("model.layers.", index, ".");
  ASSIGN_OR_RETURN(RmsNorm input_norm,
                   RmsNorm::Load(inputs.checkpoint, name + "input_layernorm.weight",
                                 config.hidden_size, config.rms_norm_eps, inputs.context));
  ASSIGN_OR_RETURN(Mixer mixer, LoadMixer(inputs, index));
  ASSIGN_OR_RETURN(RmsNorm post_attention_norm,
                   RmsNorm::Load(inputs.checkpoint, name + "post_attention_layernorm.weight",
                                 config.hidden_size, config.rms_norm_eps, inputs.context));
  ASSIGN_OR_RETURN(Mlp mlp, Mlp::Load(inputs.checkpoint, MlpNamesOf(config, name),
                                      config.hidden_size, inputs.context));
  return Layer{std::move(input_norm), std::move(mixer), CacheIndex(config, index),
               std::move(post_attention_norm), std::move(mlp)};
}

absl::StatusOr<std::unique_ptr<CausalLM>> HybridLm::Load(const ModelInputs& inputs) {
  const ModelConfig& config = inputs.config;
  const RankContext& context = inputs.context;
  ASSIGN_OR_RETURN(VocabParallelEmbedding embedding,
                   VocabParallelEmbedding::Load(inputs.checkpoint, kEmbeddingName,
                                                config.hidden_size, inputs.max_tokens, context));
  std::vector<Layer> layers;
  for (int i = 0; i < config.num_layers; ++i) {
    ASSIGN_OR_RETURN(Layer layer, LoadLayer(inputs, i));
    layers.push_back(std::move(layer));
    if (inputs.on_progress) inputs.on_progress((i + 1.0) / (config.num_layers + 1.0));
  }
  ASSIGN_OR_RETURN(RmsNorm final_norm,
                   RmsNorm::Load(inputs.checkpoint, kFinalNormName, config.hidden_size,
                                 config.rms_norm_eps, context));
  ASSIGN_OR_RETURN(LmHead head, LoadHead(inputs));
  ASSIGN_OR_RETURN(RotaryTables rotary, RotaryTables::Create(inputs.max_positions, config.head_dim,
                                                             config.rope, context.backend));
  ASSIGN_OR_RETURN(Activations activations,
                   Activations::Create(ActivationDimsOf(inputs), context.backend));
  if (inputs.on_progress) inputs.on_progress(1.0);
  return std::unique_ptr<CausalLM>(new HybridLm(
      Parts{KvSpecOf(config, context.sharding, inputs.page_size,
                     KvCacheType(context.backend->device(), context.weight_dtype)),
            StateSpecOf(config, context.sharding, inputs.max_draft_tokens), context.backend,
            std::move(embedding), std::move(layers), std::move(final_norm), std::move(head),
            std::move(rotary), std::move(activations)}));
}

PagedKvSpec HybridLm::KvSpec() const { return kv_spec_; }

int64_t HybridLm::embedding_bytes() const { return embedding_.num_bytes(); }

int64_t HybridLm::weight_bytes() const {
  int64_t bytes = final_norm_.num_bytes() + head_.num_bytes();
  for (const Layer& layer : layers_) {
    bytes += layer.input_norm.num_bytes() + BytesOf(layer.mixer) +
             layer.post_attention_norm.num_bytes() + layer.mlp.num_bytes();
  }
  return bytes;
}

absl::Status HybridLm::Forward(const ForwardContext& context, CacheStorage& cache,
                               StateStorage* states, const TensorView& logits) {
  const TensorView hidden = activations_.hidden(context.num_tokens);
  RETURN_IF_ERROR(embedding_.Forward(context, hidden));
  for (const Layer& layer : layers_) RETURN_IF_ERROR(RunLayer(layer, context, cache, states));
  if (context.num_logits > 0) ComputeLogits(context, logits);
  return absl::OkStatus();
}

absl::Status HybridLm::RunMixer(const Layer& layer, const ForwardContext& context,
                                CacheStorage& cache, StateStorage* states, const TensorView& x,
                                const TensorView& hidden) const {
  const int index = layer.cache_index;
  if (const auto* attention = std::get_if<Attention>(&layer.mixer)) {
    const KvPages pages{.keys = cache.Keys(index), .values = cache.Values(index)};
    return attention->Forward(context, rotary_, pages, x, activations_, hidden);
  }
  const StateSlots slots = states->Layer(index);
  if (const auto* mamba = std::get_if<MambaMixer>(&layer.mixer)) {
    return mamba->Forward(context, slots, x, activations_, hidden);
  }
  return std::get<Mamba2Mixer>(layer.mixer).Forward(context, slots, x, activations_, hidden);
}

absl::Status HybridLm::RunLayer(const Layer& layer, const ForwardContext& context,
                                CacheStorage& cache, StateStorage* states) {
  const TensorView hidden = activations_.hidden(context.num_tokens);
  const TensorView normed = activations_.normed(context.num_tokens);
  layer.input_norm.Forward(hidden, normed);
  RETURN_IF_ERROR(RunMixer(layer, context, cache, states, normed, hidden));
  layer.post_attention_norm.Forward(hidden, normed);
  return layer.mlp.Forward(normed, activations_, hidden);
}

void HybridLm::ComputeLogits(const ForwardContext& context, const TensorView& logits) {
  const TensorView last = activations_.last(context.num_logits);
  // A lookup with row numbers for ids: collects the rows that want logits.
  backend_->Embedding(
      {.table = activations_.hidden(context.num_tokens), .ids = context.logits_rows, .out = last});
  const TensorView normed = activations_.normed(context.num_logits);
  final_norm_.Forward(last, normed);
  head_.Forward(normed, logits);
}

}  // namespace krait
