#include "worker/engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/logging.h"

namespace krait {

Scheduler::Scheduler(const SchedulerConfig& config) : config_(config), cache_(config.cache) {
  // Otherwise decoding sequences alone could fill a step, and a prompt would wait for ever.
  CHECK_GE(config.max_num_batched_tokens, config.max_running);
  CHECK_GT(config.max_running, 0);
}

absl::Status CheckFitsCache(const CacheConfig& cache, int prompt_tokens, int max_tokens) {
  const int64_t room = int64_t{cache.num_pages} * cache.page_size;
  const int64_t wanted = int64_t{prompt_tokens} + max_tokens;
  if (wanted <= room) return absl::OkStatus();
  return FieldError("max_tokens", absl::StrCat("prompt and max_tokens are ", wanted,
                                               " tokens, the KV cache holds ", room));
}

void Scheduler::Add(std::unique_ptr<Sequence> sequence) {
  waiting_.push_back(sequence.get());
  const SequenceId id = sequence->id;
  CHECK(sequences_.emplace(id, std::move(sequence)).second) << "sequence=" << id;
}

bool Scheduler::End(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return false;
  Sequence* sequence = it->second.get();
  std::erase(waiting_, sequence);
  std::erase(running_, sequence);
  cache_.Release(sequence->cursor);
  if (sequence->started) ends_.push_back(id);
  sequences_.erase(it);
  return true;
}

std::vector<SequenceId> Scheduler::Expired(absl::Duration now) const {
  std::vector<SequenceId> expired;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->deadline <= now) expired.push_back(id);
  }
  std::sort(expired.begin(), expired.end());
  return expired;
}

std::optional<ScheduledStep> Scheduler::Schedule(DraftChooser choose_drafts) {
  ScheduledStep step;
  Admit(step);
  ScheduleDecodes(choose_drafts, step);
  SchedulePrefills(step);
  if (step.plan.work.empty()) return std::nullopt;
  step.plan.step_id = next_step_id_++;
  step.plan.ends = std::exchange(ends_, {});
  CHECK_LE(step.plan.num_tokens(), config_.max_num_batched_tokens);
  return step;
}

// Strictly in order: a small request never overtakes a large one, so the large one's turn comes.
void Scheduler::Admit(ScheduledStep& step) {
  while (!waiting_.empty() && num_running() < config_.max_running) {
    Sequence* next = waiting_.front();
    if (!cache_.Admit(next->cursor, next->prompt_tokens + next->max_tokens).ok()) return;
    waiting_.pop_front();
    running_.push_back(next);
    step.admitted.push_back(next->id);
  }
}

bool Scheduler::PromptsWait() const {
  return std::any_of(running_.begin(), running_.end(),
                     [](const Sequence* sequence) { return !sequence->decoding(); });
}

// Drafts share what the decoding rows leave, level by level; half of it while prompts wait, or long
// drafts would starve them.
std::vector<int> Scheduler::ChooseDrafts(DraftChooser choose_drafts) const {
  std::vector<DraftLimit> limits;
  std::vector<int> wanted;
  for (const Sequence* sequence : running_) {
    if (!sequence->decoding()) continue;
    const int remaining = sequence->max_tokens - sequence->num_generated();
    limits.push_back({sequence->id, 0});
    wanted.push_back(std::min(sequence->max_draft_tokens, remaining - 1));
  }
  int spare = config_.max_num_batched_tokens - static_cast<int>(limits.size());
  if (PromptsWait()) spare /= 2;
  for (bool given = true; given && spare > 0;) {
    given = false;
    for (size_t i = 0; i < limits.size() && spare > 0; ++i) {
      if (limits[i].max_draft_tokens >= wanted[i]) continue;
      ++limits[i].max_draft_tokens;
      --spare;
      given = true;
    }
  }
  std::vector<int> chosen = choose_drafts(limits);
  CHECK_EQ(chosen.size(), limits.size());
  for (size_t i = 0; i < limits.size(); ++i) {
    CHECK(chosen[i] >= 0 && chosen[i] <= limits[i].max_draft_tokens) << "chosen=" << chosen[i];
  }
  return chosen;
}

void Scheduler::ScheduleDecodes(DraftChooser choose_drafts, ScheduledStep& step) {
  const std::vector<int> drafts = ChooseDrafts(choose_drafts);
  for (Sequence* sequence : running_) {
    if (!sequence->decoding()) continue;
    AddWork(*sequence, 1, drafts[step.decode_rows], step);
    ++step.decode_rows;
  }
}

void Scheduler::SchedulePrefills(ScheduledStep& step) {
  int room = config_.max_num_batched_tokens - step.decode_rows;
  for (int drafts : step.num_draft_tokens) room -= drafts;
  for (Sequence* sequence : running_) {
    if (sequence->decoding() || room == 0) continue;
    const int chunk = std::min(room, sequence->num_uncomputed());
    AddWork(*sequence, chunk, 0, step);
    room -= chunk;
    step.prefill_tokens += chunk;
    ++step.prefill_sequences;
  }
}

void Scheduler::AddWork(Sequence& sequence, int num_tokens, int num_drafts, ScheduledStep& step) {
  SequenceWork work{.id = sequence.id, .num_tokens = num_tokens};
  const size_t held = sequence.cursor.page_table.size();
  CHECK_OK(cache_.Reserve(sequence.cursor, num_tokens + num_drafts));  // its admission covers it
  work.new_pages.assign(sequence.cursor.page_table.begin() + held,
                        sequence.cursor.page_table.end());
  if (!sequence.started) {
    step.plan.starts.push_back({sequence.id, sequence.tokens, sequence.sampling});
    sequence.started = true;
  }
  step.plan.work.push_back(std::move(work));
  step.num_draft_tokens.push_back(num_drafts);
}

std::vector<Progress> Scheduler::Apply(const StepPlan& plan, const StepResult& result) {
  CHECK_EQ(plan.step_id, result.step_id);
  CHECK_EQ(plan.work.size(), result.results.size());
  std::vector<Progress> progress;
  for (size_t i = 0; i < plan.work.size(); ++i) {
    progress.push_back(Commit(plan.work[i], result.results[i]));
    if (progress.back().stop != StopCause::kNone || !progress.back().finite) {
      End(plan.work[i].id);
    }
  }
  if (kInvariantsEnabled) cache_.CheckIntegrity();
  return progress;
}

Progress Scheduler::Commit(const SequenceWork& work, const SequenceResult& result) {
  CHECK_EQ(work.id, result.id);
  const auto it = sequences_.find(work.id);
  CHECK(it != sequences_.end()) << "sequence=" << work.id;
  Sequence& sequence = *it->second;
  Progress progress{.id = work.id, .first_index = sequence.num_generated()};
  progress.finite = result.finite;
  if (!result.finite) return progress;

  const bool draws = work.num_tokens == sequence.num_uncomputed();
  CHECK_EQ(result.token_ids.size(), draws ? result.num_accepted + 1u : 0u);
  CHECK_LE(result.num_accepted, static_cast<int>(work.draft_token_ids.size()));
  cache_.Commit(sequence.cursor, work.num_tokens + result.num_accepted);
  progress.num_drafts = static_cast<int>(work.draft_token_ids.size());
  progress.num_accepted = result.num_accepted;
  if (!draws) return progress;

  const StopDecision decision = sequence.stop.Check(sequence.num_generated(), result.token_ids);
  progress.stop = decision.cause;
  for (int i = 0; i < decision.num_tokens; ++i) {
    sequence.Append(result.token_ids[i]);
    progress.token_ids.push_back(result.token_ids[i]);
    if (!result.logprobs.empty()) progress.logprobs.push_back(result.logprobs[i]);
  }
  return progress;
}

const Sequence* Scheduler::Find(SequenceId id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : it->second.get();
}

int64_t Scheduler::num_queued_tokens() const {
  int64_t queued = 0;
  for (const auto& [id, sequence] : sequences_) {
    if (!sequence->decoding()) queued += sequence->num_uncomputed();
  }
  return queued;
}

}  // namespace krait
