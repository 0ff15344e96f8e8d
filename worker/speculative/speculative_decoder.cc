#include "worker/speculative/speculative_decoder.h"

#include <algorithm>
#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr absl::Duration kMinProposalDeadline = absl::Milliseconds(5);
constexpr size_t kRecentSteps = 31;

bool HasPrefill(const StepPlan& plan) {
  return !plan.starts.empty() ||
         std::any_of(plan.work.begin(), plan.work.end(),
                     [](const SequenceWork& work) { return work.num_tokens > 1; });
}

}  // namespace

SpeculativeDecoder::SpeculativeDecoder(const SpeculationConfig& config, StepExecutor* executor,
                                       Proposer* proposer, const Clock* clock)
    : config_(config), executor_(executor), proposer_(proposer), clock_(clock) {}

void SpeculativeDecoder::Begin(SequenceId id, absl::Span<const TokenId> prompt,
                               const SamplingParams& sampling) {
  if (proposer_ == nullptr) return;
  begun_.insert(id);
  proposer_->Begin(id, prompt, static_cast<int>(prompt.size()), sampling);
}

void SpeculativeDecoder::Release(SequenceId id) {
  if (begun_.erase(id) == 0) return;
  policy_.Release(id);
  proposer_->Release(id);
}

std::string_view SpeculativeDecoder::disabled_reason() const {
  return proposer_ == nullptr ? std::string_view() : proposer_->disabled_reason();
}

std::vector<int> SpeculativeDecoder::ChooseDrafts(absl::Span<const DraftLimit> limits) {
  // While the draft is away nothing is learned, so that its return is noticed at once.
  const bool off = proposer_ == nullptr || !proposer_->disabled_reason().empty();
  std::vector<int> chosen(limits.size(), 0);
  if (off) return chosen;
  if (!config_.fixed_draft_tokens) return policy_.Choose(limits);
  for (size_t i = 0; i < limits.size(); ++i) chosen[i] = limits[i].max_draft_tokens;
  return chosen;
}

absl::Duration SpeculativeDecoder::proposal_deadline() const {
  if (config_.proposal_deadline > absl::ZeroDuration()) return config_.proposal_deadline;
  if (recent_steps_.empty()) return kMinProposalDeadline;
  std::vector<absl::Duration> sorted = recent_steps_;
  std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
  return std::max(kMinProposalDeadline, sorted[sorted.size() / 2] / 2);
}

void SpeculativeDecoder::RecordStep(absl::Duration pass) {
  if (recent_steps_.size() < kRecentSteps) {
    recent_steps_.push_back(pass);
  } else {
    recent_steps_[next_recent_++ % kRecentSteps] = pass;
  }
}

bool SpeculativeDecoder::Usable(const std::vector<TokenId>& drafts, const ProposalRow& row) const {
  const int vocab_size = executor_->vocab_size();
  return static_cast<int>(drafts.size()) <= row.num_draft_tokens &&
         std::all_of(drafts.begin(), drafts.end(),
                     [&](TokenId id) { return id >= 0 && id < vocab_size; });
}

void SpeculativeDecoder::FillDrafts(absl::Span<const ProposalRow> rows, StepPlan& plan,
                                    StartedStep& step) {
  if (rows.empty() || proposer_ == nullptr) return;
  const absl::Duration start = clock_->Now();
  std::vector<std::vector<TokenId>> drafts = proposer_->Propose(rows, proposal_deadline());
  std::vector<std::vector<SharedMasses>> masses = proposer_->TakeMasses();
  step.draft_wait = clock_->Now() - start;
  step.proposals = proposer_->last_outcome();
  masses.resize(rows.size());
  if (drafts.size() != rows.size()) {
    step.proposals.malformed += static_cast<int>(rows.size());
    return;
  }
  auto work = plan.work.begin();
  for (size_t i = 0; i < rows.size(); ++i) {
    work = std::find_if(work, plan.work.end(),
                        [&](const SequenceWork& item) { return item.id == rows[i].id; });
    CHECK(work != plan.work.end()) << "sequence=" << rows[i].id;
    const bool paired = masses[i].empty() || masses[i].size() == drafts[i].size();
    if (paired && Usable(drafts[i], rows[i])) {
      work->draft_token_ids = std::move(drafts[i]);
      work->draft_masses = std::move(masses[i]);
    } else {
      ++step.proposals.malformed;
    }
  }
}

StartedStep SpeculativeDecoder::Start(StepPlan plan, absl::Span<const ProposalRow> rows) {
  StartedStep step;
  FillDrafts(rows, plan, step);
  step.plan = std::make_shared<const StepPlan>(std::move(plan));
  std::vector<AskedRow> asked;
  for (const ProposalRow& row : rows) asked.push_back({row.id, row.num_draft_tokens});
  flights_.push_back({step, std::move(asked), clock_->Now()});
  executor_->Start(step.plan);
  return step;
}

absl::StatusOr<DecodedStep> SpeculativeDecoder::Finish() {
  CHECK(!flights_.empty());
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  DecodedStep step{.plan = flight.step.plan,
                   .draft_wait = flight.step.draft_wait,
                   .proposals = flight.step.proposals};
  ASSIGN_OR_RETURN(step.result, executor_->Finish(config_.step_deadline));
  const absl::Duration now = clock_->Now();
  step.pass = now - std::max(flight.start, last_finish_);
  last_finish_ = now;
  Learn(flight.asked, step);
  return step;
}

void SpeculativeDecoder::Learn(const std::vector<AskedRow>& asked, const DecodedStep& step) {
  std::vector<DraftOutcome> outcomes;
  size_t next = 0;
  for (size_t i = 0; i < step.plan->work.size() && next < asked.size(); ++i) {
    const SequenceWork& work = step.plan->work[i];
    if (work.id != asked[next].id) continue;
    outcomes.push_back({work.id, asked[next].num_draft_tokens,
                        static_cast<int>(work.draft_token_ids.size()),
                        step.result.results[i].num_accepted});
    ++next;
  }
  const bool has_prefill = HasPrefill(*step.plan);
  if (!has_prefill) RecordStep(step.pass);
  policy_.OnRound({.outcomes = outcomes,
                   .num_tokens = step.plan->num_tokens(),
                   .has_prefill = has_prefill,
                   .pass = step.pass,
                   .draft_wait = step.draft_wait});
}

}  // namespace krait
