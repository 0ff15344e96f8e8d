#include "worker/server/draft_role.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/prefix_hash.h"
#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/server/memory_plan.h"
#include "worker/speculative/draft_model_proposer.h"

namespace krait {
namespace {

constexpr int kMaxDraftTokens = 15;

// One pass of one token: what cannot run shall show before anybody relies on it.
absl::Status WarmUp(DraftModelProposer& proposer) {
  const TokenId token = 0;
  const ProposalRow row{.id = 0,
                        .tokens = absl::MakeConstSpan(&token, 1),
                        .hash = PrefixHash(absl::MakeConstSpan(&token, 1)),
                        .num_draft_tokens = 1};
  proposer.Begin(0, row.tokens, 1, SamplingParams{.temperature = 0});
  const auto drafts = proposer.Propose(absl::MakeConstSpan(&row, 1), absl::InfiniteDuration());
  proposer.Release(0);
  if (drafts[0].size() == 1) return absl::OkStatus();
  return absl::InternalError("the draft's first step gave no token");
}

}  // namespace

DraftRole::DraftRole(const WorkerOptions& options, std::string instance_id, const Clock* clock,
                     Metrics* metrics)
    : options_(options),
      clock_(clock),
      memory_(metrics),
      rows_(metrics->AddCounter("krait_draft_rows_total", "Rows that asked for drafts.")),
      tokens_(metrics->AddCounter("krait_draft_tokens_total", "Draft tokens proposed.")),
      late_(metrics->AddCounter("krait_draft_late_rows_total",
                                "Rows whose time was up before the draft came to them.")),
      service_(clock) {
  description_.set_instance_id(std::move(instance_id));
}

NamedService DraftRole::service() {
  return {internal::v1::DraftService::service_full_name(), &service_};
}

absl::Status DraftRole::Load(const std::function<void(double)>& on_progress) {
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(options_.model_path));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options_.model_path));
  ASSIGN_OR_RETURN(const ModelConfig model, ModelConfig::Load(checkpoint, options_.rope_scaling));
  ASSIGN_OR_RETURN(const std::vector<int32_t> token_map, model.LoadDraftTokenMap(checkpoint));
  ASSIGN_OR_RETURN(weights_digest_, checkpoint.WeightsDigest(options_.threads));

  DraftModelOptions draft;
  draft.model_path = options_.model_path;
  draft.rope_scaling = options_.rope_scaling;
  draft.device = options_.device;
  draft.num_threads = options_.threads;
  draft.runner.weight_dtype = options_.weight_dtype;
  draft.runner.page_size = options_.page_size;
  ASSIGN_OR_RETURN(const MemoryPlan plan,
                   PlanMemory(options_, checkpoint, model, MemoryLimit(options_)));
  draft.runner.num_pages = plan.num_pages;
  draft.runner.num_state_slots = plan.num_state_slots;
  draft.runner.max_tokens = options_.max_num_batched_tokens;
  draft.runner.max_logits = options_.max_running;
  draft.runner.on_progress = on_progress;
  draft.max_sequences = options_.max_running;
  ASSIGN_OR_RETURN(auto proposer, DraftModelProposer::Create(draft, clock_));
  if (proposer->model() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(options_.model_path, ": ", std::string(proposer->disabled_reason())));
  }
  RETURN_IF_ERROR(WarmUp(*proposer));
  const MemoryUse memory = proposer->model()->runner().memory();
  memory_.SetTotals(memory);
  LOG(INFO) << memory.ToString() << " msg=\"memory\"";

  description_.set_model(options_.model_name);
  description_.set_tokenizer_digest(vocabulary.Digest());
  description_.set_vocab_size(static_cast<int32_t>(model.vocab_size));
  description_.mutable_token_map()->Add(token_map.begin(), token_map.end());
  description_.set_max_draft_tokens(kMaxDraftTokens);
  description_.set_max_sequences(options_.max_running);
  description_.set_max_context_tokens(proposer->model()->runner().max_positions());
  const CacheManager* cache = &proposer->cache();
  runner_ = std::make_unique<DraftRunner>(std::move(proposer), cache, options_.max_running,
                                          description_.max_context_tokens(), clock_);
  service_.SetRunner(runner_.get(), description_);
  return absl::OkStatus();
}

void DraftRole::Describe(internal::v1::RegisterRequest& request) const {
  v1::Worker& worker = *request.mutable_worker();
  worker.set_role(v1::WORKER_ROLE_DRAFT);
  worker.set_weights_digest(weights_digest_);
  worker.set_tokenizer_digest(description_.tokenizer_digest());
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  v1::Rank* rank = worker.add_ranks();
  rank->set_device("cpu:0");
  rank->set_host(host);
  rank->set_pid(getpid());
  request.set_max_context_tokens(description_.max_context_tokens());
  request.set_vocab_size(description_.vocab_size());
}

void DraftRole::FillLoad(internal::v1::HeartbeatRequest& heartbeat) const {
  heartbeat.mutable_load()->set_max_running(options_.max_running);
}

void DraftRole::UpdateMetrics() {
  if (runner_ == nullptr) return;
  absl::MutexLock lock(&mutex_);
  const DraftRunner::Counts now = runner_->counts();
  rows_.Increment(static_cast<double>(now.proposals - exported_.proposals));
  tokens_.Increment(static_cast<double>(now.drafts - exported_.drafts));
  late_.Increment(static_cast<double>(now.late - exported_.late));
  exported_ = now;
  memory_.SetUsed(now.pages_used, now.state_slots_used);
}

}  // namespace krait
