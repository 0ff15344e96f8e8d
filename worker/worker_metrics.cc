#include "worker/worker_metrics.h"

#include <algorithm>

#include "common/strings.h"

namespace krait {
namespace {

// The closed sets that labels come from. "other" is for a value nobody has listed here.
constexpr const char* kOutcomes[] = {"ok", "missing", "late", "stale", "malformed", "error"};
constexpr const char* kDisabledReasons[] = {
    "disconnected", "tokenizer_mismatch", "token_map", "vocabulary", "late", "other"};
constexpr const char* kPhases[] = {"schedule", "draft", "model", "deliver"};
constexpr const char* kFinished[] = {"stop",     "length",      "cancelled",   "deadline",
                                     "internal", "unavailable", "slow_reader", "other"};

std::string_view FinishedLabel(const absl::Status& status, FinishReason reason) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return reason == FinishReason::kLength ? "length" : "stop";
    case absl::StatusCode::kCancelled:
      return "cancelled";
    case absl::StatusCode::kDeadlineExceeded:
      return "deadline";
    case absl::StatusCode::kInternal:
      return "internal";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kResourceExhausted:
      return "slow_reader";
    default:
      return "other";
  }
}

template <typename Map>
auto& Find(Map& series, std::string_view label) {
  const auto found = series.find(label);
  return *(found == series.end() ? series.find("other") : found)->second;
}

}  // namespace

WorkerMetrics::WorkerMetrics(Metrics* metrics)
    : memory_(metrics),
      requests_running_(metrics->AddGauge("krait_num_requests_running", "Requests in the batch.")),
      requests_waiting_(metrics->AddGauge("krait_num_requests_waiting",
                                          "Accepted requests that are not yet in the batch.")),
      requests_paused_(metrics->AddGauge("krait_num_requests_paused",
                                         "Requests whose reader takes less than they generate.")),
      queued_tokens_(metrics->AddGauge("krait_queued_tokens", "Prompt tokens not yet prefilled.")),
      draft_connected_(
          metrics->AddGauge("krait_draft_connected", "1 while proposals can come from the draft.")),
      prompt_tokens_(metrics->AddCounter("krait_prompt_tokens_total", "Prompt tokens prefilled.")),
      generation_tokens_(metrics->AddCounter("krait_generation_tokens_total", "Tokens generated.")),
      preemptions_(
          metrics->AddCounter("krait_num_preemptions_total",
                              "Running sequences that lost their KV pages to older ones.")),
      recomputed_tokens_(metrics->AddCounter("krait_recomputed_tokens_total",
                                             "Prompt and generated tokens computed again after "
                                             "their KV pages had been lost.")),
      steps_(metrics->AddCounter("krait_steps_total", "Engine steps.")),
      time_to_first_token_(metrics->AddHistogram("krait_time_to_first_token_seconds",
                                                 "From submission to the first token.",
                                                 TimeToFirstTokenBuckets())),
      inter_token_(metrics->AddHistogram("krait_inter_token_latency_seconds",
                                         "Between tokens of one request; tokens of one step share "
                                         "its time.",
                                         InterTokenLatencyBuckets())),
      request_latency_(metrics->AddHistogram("krait_e2e_request_latency_seconds",
                                             "From submission to the end of a request.",
                                             RequestLatencyBuckets())),
      request_prompt_tokens_(metrics->AddHistogram(
          "krait_request_prompt_tokens", "Prompt tokens of a request.", TokenCountBuckets())),
      request_generation_tokens_(metrics->AddHistogram("krait_request_generation_tokens",
                                                       "Tokens generated for a request.",
                                                       TokenCountBuckets())),
      step_(metrics->AddHistogram("krait_step_seconds", "One engine step.", StepBuckets())),
      step_tokens_(metrics->AddHistogram("krait_step_tokens",
                                         "Tokens of a step: prompt chunks, decode rows, drafts.",
                                         TokenCountBuckets())),
      draft_wait_(metrics->AddHistogram("krait_draft_wait_seconds",
                                        "What a step with drafts waited for proposals.",
                                        StepBuckets())),
      drafts_(metrics->AddCounter("krait_spec_decode_num_drafts_total",
                                  "Rows that were verified with at least one draft token.")),
      draft_tokens_(metrics->AddCounter("krait_spec_decode_num_draft_tokens_total",
                                        "Draft tokens verified.")),
      accepted_tokens_(metrics->AddCounter("krait_spec_decode_num_accepted_tokens_total",
                                           "Draft tokens accepted.")),
      nonfinite_rows_(metrics->AddCounter("krait_nonfinite_rows_total",
                                          "Requests ended because their logits were not finite.")) {
  for (int i = 0; i < kMaxDraftPositions; ++i) {
    accepted_per_position_[i] = &metrics->AddCounter(
        "krait_spec_decode_num_accepted_tokens_per_pos_total",
        "Draft tokens accepted, by position in the draft.", {{"position", std::to_string(i)}});
  }
  for (const char* reason : kFinished) {
    finished_[reason] = &metrics->AddCounter(
        "krait_request_success_total", "Requests ended, by reason; stop and length are successes.",
        {{"finished_reason", reason}});
  }
  for (size_t i = 0; i < phase_.size(); ++i) {
    phase_[i] = &metrics->AddHistogram("krait_step_phase_seconds", "Parts of an engine step.",
                                       StepBuckets(), {{"phase", kPhases[i]}});
  }
  for (const char* outcome : kOutcomes) {
    proposals_[outcome] = &metrics->AddCounter("krait_draft_proposals_total",
                                               "Rows that asked for drafts, by what came of it.",
                                               {{"outcome", outcome}});
  }
  for (const char* reason : kDisabledReasons) {
    disabled_total_[reason] = &metrics->AddCounter(
        "krait_spec_disabled_total", "Times speculation was turned off.", {{"reason", reason}});
    disabled_[reason] = &metrics->AddGauge(
        "krait_spec_disabled", "1 while speculation is off for this reason.", {{"reason", reason}});
  }
}

void WorkerMetrics::OnStep(const StepStats& stats) {
  steps_.Increment();
  step_.Observe(absl::ToDoubleSeconds(stats.duration));
  const absl::Duration phases[] = {stats.scheduling, stats.draft_wait, stats.model, stats.delivery};
  for (size_t i = 0; i < std::size(phases); ++i) {
    phase_[i]->Observe(absl::ToDoubleSeconds(std::max(phases[i], absl::ZeroDuration())));
  }
  step_tokens_.Observe(stats.prefill_tokens + stats.recomputed_tokens + stats.decode_rows +
                       stats.draft_tokens);
  prompt_tokens_.Increment(stats.prefill_tokens);
  generation_tokens_.Increment(stats.generated_tokens);
  preemptions_.Increment(stats.preemptions);
  recomputed_tokens_.Increment(stats.recomputed_tokens);
  drafts_.Increment(stats.speculating_sequences);
  draft_tokens_.Increment(stats.draft_tokens);
  accepted_tokens_.Increment(stats.accepted_tokens);
  if (stats.draft_wait > absl::ZeroDuration()) {
    draft_wait_.Observe(absl::ToDoubleSeconds(stats.draft_wait));
  }
  CountProposals(stats.proposals);
  SetDisabledReason(stats.speculation_disabled_reason);
}

void WorkerMetrics::CountProposals(const ProposalOutcome& proposals) {
  const std::pair<const char*, int> counts[] = {
      {"ok", proposals.ok},       {"missing", proposals.empty},       {"late", proposals.late},
      {"stale", proposals.stale}, {"malformed", proposals.malformed}, {"error", proposals.error}};
  for (const auto& [outcome, count] : counts) proposals_[outcome]->Increment(count);
}

void WorkerMetrics::SetDisabledReason(std::string_view reason) {
  if (reason == disabled_reason_) return;
  if (!disabled_reason_.empty()) Find(disabled_, disabled_reason_).Set(0);
  disabled_reason_ = std::string(reason);
  if (reason.empty()) return;
  Find(disabled_, reason).Set(1);
  Find(disabled_total_, reason).Increment();
}

void WorkerMetrics::OnAccepted(int position, bool accepted) {
  if (accepted && position < kMaxDraftPositions) accepted_per_position_[position]->Increment();
}

void WorkerMetrics::OnFirstToken(absl::Duration since_submit) {
  time_to_first_token_.Observe(absl::ToDoubleSeconds(since_submit));
}

void WorkerMetrics::OnInterToken(absl::Duration gap) {
  inter_token_.Observe(absl::ToDoubleSeconds(gap));
}

void WorkerMetrics::OnFinished(const absl::Status& status, FinishReason reason, int prompt_tokens,
                               int completion_tokens, absl::Duration since_submit) {
  Find(finished_, FinishedLabel(status, reason)).Increment();
  request_latency_.Observe(absl::ToDoubleSeconds(since_submit));
  request_prompt_tokens_.Observe(prompt_tokens);
  request_generation_tokens_.Observe(completion_tokens);
}

void WorkerMetrics::OnNonFinite() { nonfinite_rows_.Increment(); }

void WorkerMetrics::SetLoad(const EngineLoad& load) {
  requests_running_.Set(load.running);
  requests_waiting_.Set(load.waiting);
  memory_.SetUsed(load.pages_used, load.state_slots_used);
  requests_paused_.Set(load.paused);
  queued_tokens_.Set(static_cast<double>(load.queued_tokens));
  draft_connected_.Set(load.draft_connected ? 1 : 0);
}

}  // namespace krait
