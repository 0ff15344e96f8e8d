#include "worker/server/target_role.h"

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/server/group_options.h"
#include "worker/server/proto_conversion.h"
#include "worker/speculative/draft_model_proposer.h"
#include "worker/speculative/proposer_factory.h"

namespace krait {
namespace {

// With rejection sampling tokens depend on how many drafts come: a fixed number of them must not
// depend on the time.
absl::Duration ProposalDeadline(const WorkerOptions& options) {
  const bool waits = options.sampling_mode == SamplingMode::kRejection &&
                     options.fixed_draft_tokens &&
                     options.proposal_deadline == absl::ZeroDuration();
  return waits ? absl::InfiniteDuration() : options.proposal_deadline;
}

EngineConfig MakeEngineConfig(const WorkerOptions& options, const Vocabulary& vocabulary,
                              const MemoryPlan& plan) {
  EngineConfig config;
  config.group = MakeRankGroupOptions(options, plan);
  config.num_state_slots = plan.num_state_slots;
  config.eos_ids = vocabulary.eos_ids;
  config.max_context_tokens = options.max_context_tokens;
  config.max_running = options.max_running;
  config.max_waiting = options.max_waiting;
  config.max_num_batched_tokens = options.max_num_batched_tokens;
  config.reserved_output_tokens = options.reserved_output_tokens;
  config.slow_reader_timeout = options.slow_reader_timeout;
  config.max_draft_tokens = options.max_draft_tokens;
  config.fixed_draft_tokens = options.fixed_draft_tokens;
  config.proposal_deadline = ProposalDeadline(options);
  config.step_deadline = options.step_deadline;
  return config;
}

DraftModelOptions MakeDraftModelOptions(const WorkerOptions& options, const CachePlan& plan,
                                        const std::string& tokenizer_digest, int vocab_size) {
  DraftModelOptions draft;
  draft.model_path = options.draft_model_path;
  draft.device = options.device;
  draft.num_threads = options.threads;
  draft.runner.weight_dtype = options.weight_dtype;
  draft.runner.page_size = options.page_size;
  draft.runner.num_pages = plan.num_pages;
  draft.runner.num_state_slots = plan.num_state_slots;
  draft.max_sequences = options.max_running;
  draft.for_rejection = options.sampling_mode == SamplingMode::kRejection;
  draft.tokenizer_digest = tokenizer_digest;
  draft.vocab_size = vocab_size;
  return draft;
}

}  // namespace

TargetRole::TargetRole(const WorkerOptions& options, std::string instance_id, const Clock* clock,
                       Metrics* metrics, const EpochTable* epochs, std::function<void()> on_drain,
                       std::function<void(const absl::Status&)> on_fatal)
    : options_(options),
      instance_id_(std::move(instance_id)),
      clock_(clock),
      on_fatal_(std::move(on_fatal)),
      metrics_(metrics),
      service_(clock, epochs, std::move(on_drain)) {}

NamedService TargetRole::service() {
  return {internal::v1::WorkerService::service_full_name(), &service_};
}

// In this process; a draft that may not propose is not loaded and takes nothing.
absl::StatusOr<std::unique_ptr<Proposer>> TargetRole::MakeDraft(const CachePlan& plan,
                                                                int64_t vocab_size) {
  const DraftModelOptions options =
      MakeDraftModelOptions(options_, plan, tokenizer_digest_, static_cast<int>(vocab_size));
  ASSIGN_OR_RETURN(auto proposer, DraftModelProposer::Create(options, clock_));
  if (proposer->model() == nullptr) return proposer;
  const MemoryUse memory = proposer->model()->runner().memory();
  metrics_.SetDraftMemory(memory);
  LOG(INFO) << memory.ToString() << " msg=\"memory of the draft\"";
  return proposer;
}

absl::StatusOr<std::unique_ptr<Proposer>> TargetRole::MakeProposer(const CachePlan& draft,
                                                                   int64_t vocab_size) {
  ProposerOptions proposer;
  switch (options_.draft_source) {
    case DraftSource::kRemote: {
      auto remote = std::make_unique<RemoteProposer>(
          DraftLinkOptions{.address = options_.draft_address,
                           .tokenizer_digest = tokenizer_digest_,
                           .vocab_size = static_cast<int>(vocab_size)},
          instance_id_, clock_);
      remote_ = remote.get();
      return remote;
    }
    case DraftSource::kModel:
      return MakeDraft(draft, vocab_size);
    case DraftSource::kNgram:
      proposer.kind = "ngram";
      break;
    case DraftSource::kNone:
      proposer.kind = "none";
      break;
  }
  return krait::MakeProposer(proposer, clock_);
}

absl::Status TargetRole::Load(const std::function<void(double)>& on_progress) {
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(options_.model_path));
  tokenizer_digest_ = vocabulary.Digest();
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options_.model_path));
  ASSIGN_OR_RETURN(const ModelConfig model, ModelConfig::Load(checkpoint, options_.rope_scaling));
  if (options_.tensor_parallel_size > model.num_kv_heads) {
    return FieldError("tensor_parallel_size",
                      absl::StrCat("must be at most ", model.num_kv_heads,
                                   ", the model's KV heads, got ", options_.tensor_parallel_size));
  }
  ASSIGN_OR_RETURN(const MemoryPlan plan,
                   PlanMemory(options_, checkpoint, model, MemoryLimit(options_)));
  ASSIGN_OR_RETURN(std::unique_ptr<Proposer> proposer, MakeProposer(plan.draft, model.vocab_size));
  EngineConfig config = MakeEngineConfig(options_, vocabulary, plan);
  config.group.runner.on_progress = on_progress;
  config.group.on_lost = on_fatal_;
  ASSIGN_OR_RETURN(engine_,
                   Engine::Create(config, std::move(proposer), clock_, &metrics_, on_fatal_));
  const MemoryUse memory = engine_->group().memory();
  metrics_.SetMemory(memory);
  LOG(INFO) << memory.ToString() << " msg=\"memory\"";
  service_.SetEngine(engine_.get(), {.limits = {.max_context_tokens = engine_->max_context_tokens(),
                                                .vocab_size = engine_->vocab_size()},
                                     .eos_ids = vocabulary.eos_ids});
  return absl::OkStatus();
}

void TargetRole::Describe(internal::v1::RegisterRequest& request) const {
  v1::Worker& worker = *request.mutable_worker();
  worker.set_role(v1::WORKER_ROLE_TARGET);
  worker.set_weights_digest(engine_->group().weights_digest());
  worker.set_tokenizer_digest(tokenizer_digest_);
  const std::vector<RankPlace>& ranks = engine_->group().ranks();
  for (size_t i = 0; i < ranks.size(); ++i) {
    v1::Rank* rank = worker.add_ranks();
    rank->set_rank(static_cast<int32_t>(i));
    rank->set_device(ranks[i].device);
    rank->set_host(ranks[i].host);
    rank->set_pid(ranks[i].pid);
  }
  request.set_max_context_tokens(engine_->max_context_tokens());
  request.set_vocab_size(engine_->vocab_size());
}

// The engine publishes its load with each step; whether the draft is there changes without one.
EngineLoad TargetRole::Load() const {
  EngineLoad load = engine_->Load();
  if (remote_ != nullptr) load.draft_connected = remote_->connected();
  return load;
}

void TargetRole::FillLoad(internal::v1::HeartbeatRequest& heartbeat) const {
  const EngineLoad load = Load();
  *heartbeat.mutable_load() = ToProto(load);
  heartbeat.set_draft_connected(load.draft_connected);
}

void TargetRole::UpdateMetrics() {
  if (engine_ != nullptr) metrics_.SetLoad(Load());
}

void TargetRole::Drain() { engine_->Drain(); }

bool TargetRole::WaitIdle(absl::Duration timeout) { return engine_->WaitIdle(timeout); }

}  // namespace krait
