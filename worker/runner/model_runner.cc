#include "worker/runner/model_runner.h"

#include <algorithm>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/cache/cache_storage.h"
#include "worker/cache/state_storage.h"
#include "worker/layers/sharding.h"
#include "worker/models/model_registry.h"
#include "worker/runner/recorded_passes.h"
#include "worker/sampling/draw_choice.h"

namespace krait {

struct ModelRunner::State {
  ModelRunnerOptions options;
  int64_t vocab_size = 0;
  int max_positions = 0;
  Backend* backend = nullptr;
  Communicator* comm = nullptr;
  std::unique_ptr<CausalLM> model;
  std::unique_ptr<CacheStorage> cache;
  std::unique_ptr<StateStorage> states;  // null without recurrent layers
  StateTraffic traffic;
  std::unique_ptr<BatchPacker> packer;
  std::unique_ptr<RecordedPasses> passes;
  Tensor logits;     // [max_logits, vocab of this rank], f32
  Tensor drawn;      // [max_logits], i32
  Tensor shard_ids;  // the head's token ids, on the device; empty if they are contiguous

  absl::Status Pass(const ForwardContext& context, const TensorView& logits);
  absl::Status LoadDrawing();
};

namespace {

int MaxPositions(const ModelRunnerOptions& options, const ModelConfig& config) {
  const int64_t in_pages = int64_t{options.num_pages} * options.page_size;
  return static_cast<int>(std::min(config.max_context_tokens, in_pages));
}

}  // namespace

// The forward pass, and the draws if it has any.
absl::Status ModelRunner::State::Pass(const ForwardContext& context, const TensorView& logits) {
  RETURN_IF_ERROR(model->Forward(context, *cache, states.get(), logits));
  if (context.draw_choices == nullptr) return absl::OkStatus();
  backend->DrawTokens({.logits = logits,
                       .first_id = model->vocab_shard().begin,
                       .ids = shard_ids.ptr<TokenId>(),
                       .rows = context.logits_rows,
                       .positions = context.positions,
                       .choices = context.draw_choices,
                       .any_filtered = context.any_filtered_draw,
                       .tokens = drawn.ptr<TokenId>()});
  return absl::OkStatus();
}

absl::Status ModelRunner::State::LoadDrawing() {
  ASSIGN_OR_RETURN(drawn, backend->Allocate(DType::kI32, {options.max_logits}));
  const VocabShard& shard = model->vocab_shard();
  if (shard.ids.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(shard_ids, backend->Allocate(DType::kI32, {shard.size()}));
  backend->CopyFromHost(shard.ids.data(), shard_ids.view());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(const ModelRunnerOptions& options,
                                                                 const ModelConfig& config,
                                                                 const Checkpoint& checkpoint,
                                                                 Backend* backend,
                                                                 Communicator* comm) {
  std::unique_ptr<ModelRunner> runner(new ModelRunner());
  State& state = *runner->state_;
  state.options = options;
  state.vocab_size = config.vocab_size;
  state.max_positions = MaxPositions(options, config);
  state.backend = backend;
  state.comm = comm;
  RankContext context{.backend = backend, .comm = comm, .weight_dtype = options.weight_dtype};
  ASSIGN_OR_RETURN(context.sharding,
                   MakeSharding(ShardingDimsOf(config), comm->rank(), comm->size()));
  ASSIGN_OR_RETURN(state.model, MakeModel({.config = config,
                                           .checkpoint = checkpoint,
                                           .context = context,
                                           .page_size = options.page_size,
                                           .max_positions = state.max_positions,
                                           .max_tokens = options.max_tokens,
                                           .max_logits = options.max_logits,
                                           .max_draft_tokens = options.max_draft_tokens,
                                           .on_progress = options.on_progress}));
  ASSIGN_OR_RETURN(state.cache,
                   CacheStorage::Create(state.model->KvSpec(), options.num_pages, backend));
  if (RecurrentStateSpec spec = state.model->StateSpec(); !spec.empty()) {
    ASSIGN_OR_RETURN(state.states,
                     StateStorage::Create(std::move(spec), options.num_state_slots, backend));
  }
  state.packer = std::make_unique<BatchPacker>(options.page_size, backend);
  state.passes = std::make_unique<RecordedPasses>(backend);
  ASSIGN_OR_RETURN(
      state.logits,
      backend->Allocate(DType::kF32, {options.max_logits, state.model->vocab_shard().size()}));
  RETURN_IF_ERROR(state.LoadDrawing());
  return runner;
}

ModelRunner::ModelRunner() : state_(std::make_unique<State>()) {}

ModelRunner::~ModelRunner() = default;

absl::StatusOr<TensorView> ModelRunner::Forward(absl::Span<const BatchRow> rows,
                                                absl::Span<const DrawChoice> draws) {
  CHECK(draws.empty() || state_->comm->size() == 1);
  ASSIGN_OR_RETURN(ForwardContext context, state_->packer->Pack(rows, draws));
  context.traffic = &state_->traffic;
  context.drawn = state_->drawn.ptr<TokenId>();
  context.any_filtered_draw = std::any_of(draws.begin(), draws.end(),
                                          [](const DrawChoice& draw) { return draw.filtered(); });
  CHECK(1 <= context.num_tokens && context.num_tokens <= state_->options.max_tokens);
  CHECK_LE(context.num_logits, state_->options.max_logits);
  const TensorView logits = state_->logits.view().Rows(0, context.num_logits);
  RETURN_IF_ERROR(state_->passes->Run(context, [&] { return state_->Pass(context, logits); }));
  // Nobody waits for a peer without a limit, as reading the logits would.
  if (state_->comm->size() > 1) RETURN_IF_ERROR(state_->comm->Await());
  return logits;
}

TensorView ModelRunner::drawn() const { return state_->drawn.view(); }

// A CPU sorts the whole row for its filters; the host's lists are shorter.
std::optional<DrawChoice> ModelRunner::DrawChoiceFor(const SamplingParams& params) const {
  if (state_->comm->size() > 1) return std::nullopt;
  const std::optional<DrawChoice> choice = DrawChoiceOf(params);
  if (!choice.has_value() || !choice->filtered()) return choice;
  const bool on_cpu = state_->backend->device().kind == DeviceKind::kCpu;
  return on_cpu || vocab_shard().size() > kMaxFilteredRow ? std::nullopt : choice;
}

void ModelRunner::PoisonPages(absl::Span<const PageId> pages) { state_->cache->Poison(pages); }

void ModelRunner::PoisonState(StateSlotId slot) {
  if (slot != kNullSlot) state_->states->Poison(slot);
}

const ModelRunnerOptions& ModelRunner::options() const { return state_->options; }

const VocabShard& ModelRunner::vocab_shard() const { return state_->model->vocab_shard(); }

int64_t ModelRunner::vocab_size() const { return state_->vocab_size; }

int ModelRunner::max_positions() const { return state_->max_positions; }

Backend* ModelRunner::backend() const { return state_->backend; }

Communicator* ModelRunner::comm() const { return state_->comm; }

int64_t ModelRunner::weight_bytes() const { return state_->model->weight_bytes(); }

MemoryUse ModelRunner::memory() const {
  const RecurrentStateSpec& spec = state_spec();
  const CacheStorage& cache = *state_->cache;
  const int64_t slots = num_state_slots();
  return {.weight_bytes = weight_bytes() + state_->model->embedding_bytes(),
          .num_pages = cache.num_pages(),
          .kv_bytes = cache.num_pages() * cache.spec().bytes_per_page(),
          .num_state_slots = num_state_slots(),
          .state_bytes = slots * spec.state_bytes_per_slot(),
          .ring_bytes = slots * spec.ring_bytes_per_slot(),
          .fold_interval = spec.fold_interval()};
}

const RecurrentStateSpec& ModelRunner::state_spec() const {
  static const RecurrentStateSpec kNone;
  return state_->states == nullptr ? kNone : state_->states->spec();
}

int ModelRunner::num_state_slots() const {
  return state_->states == nullptr ? 0 : state_->states->num_slots();
}

const StateTraffic& ModelRunner::state_traffic() const { return state_->traffic; }

int64_t ModelRunner::num_state_copies() const {
  return state_->states == nullptr ? 0 : state_->states->num_copies();
}

const StateStorage* ModelRunner::TEST_states() const { return state_->states.get(); }

int64_t ModelRunner::kv_bytes_per_token() const {
  return state_->cache->spec().bytes_per_page() / state_->cache->spec().page_size;
}

}  // namespace krait
