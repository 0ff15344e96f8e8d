#include "worker/engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "common/logging.h"
#include "worker/sampling/draw_choice.h"

namespace krait {
namespace {

Progress ProgressOf(const Sequence& sequence, const SequenceResult& result) {
  return {.id = sequence.id,
          .request = sequence.request,
          .choice = sequence.choice,
          .first_index = sequence.num_generated(),
          .finite = result.finite};
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config) : config_(config), pool_(config.pool) {
  // Otherwise decoding sequences alone could fill a step, and a prompt would wait for ever.
  CHECK_GE(config.max_num_batched_tokens, config.pool.max_running);
  CHECK_GT(config.max_known_drafts, 0);
}

std::optional<ScheduledStep> Scheduler::Schedule(DraftChooser choose_drafts) {
  ScheduledStep step;
  step.changes = pool_.Update();
  ScheduleDecodes(choose_drafts, step);
  ScheduleKnownTokens(step);
  if (step.plan.work.empty()) return std::nullopt;
  step.plan.step_id = next_step_id_++;
  pool_.TakeEnds(step.plan);
  CHECK_LE(step.plan.num_tokens(), config_.max_num_batched_tokens);
  return step;
}

bool Scheduler::KnownTokensWait() const {
  return std::any_of(pool_.running().begin(), pool_.running().end(),
                     [](const Sequence* sequence) { return sequence->catching_up(); });
}

// Drafts share what the decoding rows leave, level by level; half of it while known tokens wait, or
// long drafts would starve them.
std::vector<DraftLimit> Scheduler::DraftLimits() const {
  std::vector<DraftLimit> limits;
  std::vector<int> wanted;
  for (const Sequence* sequence : pool_.running()) {
    if (!sequence->decoding()) continue;
    limits.push_back({sequence->id, 0});
    wanted.push_back(std::min(sequence->max_draft_tokens, sequence->num_left() - 1));
  }
  int spare = config_.max_num_batched_tokens - static_cast<int>(limits.size());
  if (KnownTokensWait()) spare /= 2;
  for (bool given = true; given && spare > 0;) {
    given = false;
    for (size_t i = 0; i < limits.size() && spare > 0; ++i) {
      if (limits[i].max_draft_tokens >= wanted[i]) continue;
      ++limits[i].max_draft_tokens;
      --spare;
      given = true;
    }
  }
  return limits;
}

std::vector<int> Scheduler::ChooseDrafts(DraftChooser choose_drafts) const {
  const std::vector<DraftLimit> limits = DraftLimits();
  std::vector<int> chosen = choose_drafts(limits);
  CHECK_EQ(chosen.size(), limits.size());
  for (size_t i = 0; i < limits.size(); ++i) {
    CHECK(chosen[i] >= 0 && chosen[i] <= limits[i].max_draft_tokens) << "chosen=" << chosen[i];
  }
  return chosen;
}

void Scheduler::ScheduleDecodes(DraftChooser choose_drafts, ScheduledStep& step) {
  const std::vector<int> drafts = ChooseDrafts(choose_drafts);
  for (Sequence* sequence : pool_.running()) {
    if (!sequence->decoding()) continue;
    // Nobody is preempted for drafts: they take what pages there are.
    const int64_t room = pool_.cache().RoomFor(sequence->cursor) - 1;
    AddWork(*sequence, 1, std::min<int64_t>(drafts[step.decode_rows], room), step);
    ++step.decode_rows;
  }
}

void Scheduler::ScheduleKnownTokens(ScheduledStep& step) {
  int room = config_.max_num_batched_tokens - step.decode_rows;
  for (int drafts : step.num_draft_tokens) room -= drafts;
  for (Sequence* sequence : pool_.running()) {
    if (!sequence->catching_up() || room == 0) continue;
    const int left = sequence->prefilling()
                         ? sequence->prompt_tokens - sequence->cursor.num_computed_tokens
                         : std::min(sequence->num_uncomputed(), config_.max_known_drafts);
    const int chunk = std::min(room, left);
    AddChunk(*sequence, chunk, step);
    room -= chunk;
  }
}

void Scheduler::AddChunk(Sequence& sequence, int num_tokens, ScheduledStep& step) {
  const int first = sequence.cursor.num_computed_tokens;
  const int again = std::clamp(sequence.num_once_computed - first, 0, num_tokens);
  step.recomputed_tokens += again;
  if (sequence.prefilling()) {
    step.prefill_tokens += num_tokens - again;
    ++step.prefill_sequences;
  }
  AddWork(sequence, num_tokens, 0, step);
}

void Scheduler::AddWork(Sequence& sequence, int num_tokens, int num_drafts, ScheduledStep& step) {
  SequenceWork work{.id = sequence.id,
                    .path = sequence.prefilling() ? ComputePath::kPrefill : ComputePath::kDecode,
                    .num_tokens = num_tokens};
  const size_t held = sequence.cursor.page_table.size();
  pool_.Reserve(sequence, num_tokens + num_drafts);
  work.new_pages.assign(sequence.cursor.page_table.begin() + held,
                        sequence.cursor.page_table.end());
  if (held == 0) work.state_slot = sequence.cursor.state_slot;
  if (!sequence.started) {
    step.plan.starts.push_back({sequence.id, sequence.tokens, sequence.sampling});
    sequence.started = true;
  }
  step.plan.work.push_back(std::move(work));
  step.num_draft_tokens.push_back(num_drafts);
}

void Scheduler::Assume(const StepPlan& plan) {
  CHECK_EQ(plan.step_id, next_step_id_ - 1);
  for (const SequenceWork& work : plan.work) {
    CHECK(work.draft_token_ids.empty()) << "sequence=" << work.id;
    Sequence* const sequence = pool_.Find(work.id);
    CHECK(sequence != nullptr) << "sequence=" << work.id;
    const bool draws = work.num_tokens == sequence->num_uncomputed();
    pool_.Commit(*sequence, work.num_tokens);
    sequence->num_pending += draws;
  }
  assumed_.push_back(plan.step_id);
}

bool Scheduler::DrawsOnDevices() const {
  return std::all_of(pool_.running().begin(), pool_.running().end(), [](const Sequence* sequence) {
    return DrawChoiceOf(sequence->sampling).has_value();
  });
}

std::vector<Progress> Scheduler::Apply(const StepPlan& plan, const StepResult& result) {
  CHECK_EQ(plan.step_id, result.step_id);
  CHECK_EQ(plan.work.size(), result.results.size());
  const bool assumed = !assumed_.empty();
  if (assumed) {
    CHECK_EQ(assumed_.front(), plan.step_id);
    assumed_.pop_front();
  }
  std::vector<Progress> progress;
  for (size_t i = 0; i < plan.work.size(); ++i) {
    const SequenceWork& work = plan.work[i];
    CHECK_EQ(work.id, result.results[i].id);
    Sequence* const sequence = pool_.Find(work.id);
    if (sequence == nullptr) continue;  // it has ended since this step was scheduled
    progress.push_back(assumed ? Settle(result.results[i], *sequence)
                               : Commit(work, result.results[i], *sequence));
    if (progress.back().stop != StopCause::kNone || !progress.back().finite) End(work.id);
  }
  if (kInvariantsEnabled) pool_.cache().CheckIntegrity();
  return progress;
}

Progress Scheduler::Commit(const SequenceWork& work, const SequenceResult& result,
                           Sequence& sequence) {
  Progress progress = ProgressOf(sequence, result);
  if (!result.finite) return progress;
  const bool draws = work.num_tokens == sequence.num_uncomputed();
  CHECK_EQ(result.token_ids.size(), draws ? result.num_accepted + 1u : 0u);
  CHECK_LE(result.num_accepted, static_cast<int>(work.draft_token_ids.size()));
  pool_.Commit(sequence, work.num_tokens + result.num_accepted);
  progress.num_drafts = static_cast<int>(work.draft_token_ids.size());
  progress.num_accepted = result.num_accepted;
  AppendDraws(result, sequence, progress);
  return progress;
}

// What Assume left open.
Progress Scheduler::Settle(const SequenceResult& result, Sequence& sequence) {
  Progress progress = ProgressOf(sequence, result);
  if (!result.finite) return progress;
  CHECK_LE(static_cast<int>(result.token_ids.size()), std::min(1, sequence.num_pending));
  sequence.num_pending -= static_cast<int>(result.token_ids.size());
  AppendDraws(result, sequence, progress);
  return progress;
}

void Scheduler::AppendDraws(const SequenceResult& result, Sequence& sequence, Progress& progress) {
  if (result.token_ids.empty()) return;
  const StopDecision decision = sequence.stop.Check(sequence.num_generated(), result.token_ids);
  progress.stop = decision.cause;
  for (int i = 0; i < decision.num_tokens; ++i) {
    sequence.Append(result.token_ids[i]);
    progress.token_ids.push_back(result.token_ids[i]);
    if (!result.logprobs.empty()) progress.logprobs.push_back(result.logprobs[i]);
  }
}

}  // namespace krait
