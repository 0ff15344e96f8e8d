#include "worker/engine/sequence_pool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/logging.h"

namespace krait {
namespace {

bool Older(const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; }

template <typename List>
void InsertByArrival(List& list, Sequence* sequence) {
  list.insert(std::upper_bound(list.begin(), list.end(), sequence, Older), sequence);
}

}  // namespace

absl::Status CheckFitsCache(const CacheConfig& cache, int num_choices, int prompt_tokens,
                            int max_tokens) {
  const int64_t tokens = int64_t{prompt_tokens} + max_tokens;
  const int64_t pages = (tokens + cache.page_size - 1) / cache.page_size * num_choices;
  if (pages <= cache.num_pages) return absl::OkStatus();
  return FieldError(
      "max_tokens",
      absl::StrCat("prompt and max_tokens are ", tokens, " tokens, times n = ", num_choices,
                   "; the KV cache holds ", int64_t{cache.num_pages} * cache.page_size));
}

SequencePool::SequencePool(const SequencePoolConfig& config)
    : config_(config), cache_(config.cache) {
  CHECK_GT(config.max_running, 0);
  CHECK_GT(config.reserved_output_tokens, 0);
}

void SequencePool::Add(std::unique_ptr<Sequence> sequence) {
  sequence->arrival = next_arrival_++;
  waiting_.push_back(sequence.get());
  const SequenceId id = sequence->id;
  CHECK(sequences_.emplace(id, std::move(sequence)).second) << "sequence=" << id;
}

bool SequencePool::End(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return false;
  Leave(it->second.get());
  cache_.Release(it->second->cursor);
  if (it->second->started) ends_.push_back(id);
  sequences_.erase(it);
  return true;
}

void SequencePool::Pause(SequenceId id) {
  Sequence* sequence = Find(id);
  if (sequence == nullptr || sequence->state == SequenceState::kPaused) return;
  Leave(sequence);
  sequence->state = SequenceState::kPaused;
  paused_.push_back(sequence);
  BoundPausedPages();
}

void SequencePool::Resume(SequenceId id) {
  Sequence* sequence = Find(id);
  if (sequence == nullptr || sequence->state != SequenceState::kPaused) return;
  Leave(sequence);
  Wait(sequence);
}

void SequencePool::Leave(Sequence* sequence) {
  switch (sequence->state) {
    case SequenceState::kWaiting:
      std::erase(waiting_, sequence);
      break;
    case SequenceState::kRunning:
      std::erase(running_, sequence);
      break;
    case SequenceState::kPaused:
      std::erase(paused_, sequence);
      break;
  }
}

void SequencePool::Wait(Sequence* sequence) {
  sequence->state = SequenceState::kWaiting;
  InsertByArrival(waiting_, sequence);
}

void SequencePool::BoundPausedPages() {
  const int most =
      config_.max_paused_pages > 0 ? config_.max_paused_pages : config_.cache.num_pages / 4;
  int held = 0;
  for (const Sequence* sequence : paused_) held += sequence->cursor.num_pages();
  for (Sequence* sequence : paused_) {
    if (held <= most) return;
    held -= sequence->cursor.num_pages();
    ReleasePages(*sequence);
  }
}

std::vector<SequenceId> SequencePool::Expired(absl::Duration now) const {
  std::vector<SequenceId> expired;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->deadline <= now) expired.push_back(sequence->request);
  }
  std::sort(expired.begin(), expired.end());
  expired.erase(std::unique(expired.begin(), expired.end()), expired.end());
  return expired;
}

PoolChanges SequencePool::Update() {
  PoolChanges changes;
  // Oldest first; whoever is preempted is at the end of the list, or is the one that grows.
  for (size_t i = 0; i < running_.size(); ++i) {
    if (running_[i]->decoding() && !Grow(*running_[i], changes)) break;
  }
  // Strictly in order: a small request never overtakes a large one, so the large one's turn comes.
  while (!waiting_.empty()) {
    const int count = NumTogether();
    if (static_cast<int>(running_.size()) + count > config_.max_running) break;
    if (!TryAdmit(count)) break;
    for (int i = 0; i < count; ++i) {
      Sequence* next = waiting_.front();
      waiting_.pop_front();
      next->state = SequenceState::kRunning;
      InsertByArrival(running_, next);
      (next->started ? changes.readmitted : changes.admitted).push_back(next->id);
    }
  }
  return changes;
}

// How many of those that wait are admitted with the first: the choices of its request that have not
// begun. They arrived together.
int SequencePool::NumTogether() const {
  const Sequence& first = *waiting_.front();
  const auto other = std::find_if(waiting_.begin(), waiting_.end(), [&](const Sequence* one) {
    return one->request != first.request || one->started;
  });
  return std::max(1, static_cast<int>(other - waiting_.begin()));
}

int SequencePool::TokensToAdmit(const Sequence& sequence) const {
  const int rest = sequence.num_left();
  const bool whole = sequence.num_preemptions >= config_.max_preemptions;
  const int output = whole ? rest : std::min(rest, config_.reserved_output_tokens);
  return sequence.num_tokens() + output;
}

// Whether all that does not run would be enough for the first `count` that wait: otherwise nobody
// is to lose anything.
bool SequencePool::CanAdmit(int count) const {
  const Arrivals together{waiting_.front()->arrival, waiting_[count - 1]->arrival + 1};
  int pages = cache_.num_free_pages();
  int slots = cache_.num_free_state_slots();
  for (const auto& [id, sequence] : sequences_) {
    if (!IsIdle(*sequence, together)) continue;
    pages += sequence->cursor.num_pages();
    slots += sequence->cursor.state_slot != kNullSlot;
  }
  for (int i = 0; i < count; ++i) {
    const CacheCursor& cursor = waiting_[i]->cursor;
    pages -= std::max(0, cache_.PagesFor(TokensToAdmit(*waiting_[i])) - cursor.num_pages());
    slots -= cache_.num_state_slots() > 0 && cursor.state_slot == kNullSlot;
  }
  return pages >= 0 && slots >= 0;
}

// The only place that takes from the pools for sequences that begin: the first `count` that wait
// get all they need, or none of them anything.
bool SequencePool::TryAdmit(int count) {
  if (!CanAdmit(count)) return false;
  const Arrivals together{waiting_.front()->arrival, waiting_[count - 1]->arrival + 1};
  for (int i = 0; i < count; ++i) {
    while (!cache_.Admit(waiting_[i]->cursor, TokensToAdmit(*waiting_[i])).ok()) {
      CHECK(FreeIdlePages(together)) << "sequence=" << waiting_[i]->id;
    }
  }
  return true;
}

// Room for the last drawn token. False if the sequence itself had to go.
bool SequencePool::Grow(Sequence& sequence, PoolChanges& changes) {
  while (!cache_.Admit(sequence.cursor, sequence.num_tokens()).ok()) {
    if (FreeIdlePages({})) continue;
    Sequence* victim = YoungestToPreempt();
    CHECK(victim != nullptr) << "sequence=" << sequence.id << " has not set its pages aside";
    ++victim->num_preemptions;
    changes.preempted.push_back(victim->id);
    Leave(victim);
    ReleasePages(*victim);
    Wait(victim);
    if (victim == &sequence) return false;
  }
  return true;
}

// Whether it holds pages that it does not use now.
bool SequencePool::IsIdle(const Sequence& sequence, Arrivals keep) const {
  const bool kept = sequence.arrival >= keep.begin && sequence.arrival < keep.end;
  return !kept && sequence.state != SequenceState::kRunning && sequence.cursor.num_pages() > 0;
}

// Takes the pages of one sequence that does not run: whose client does not read first, then the
// youngest that waits. False if there is none.
bool SequencePool::FreeIdlePages(Arrivals keep) {
  const auto usable = [&](const Sequence* one) { return IsIdle(*one, keep); };
  if (const auto it = std::find_if(paused_.begin(), paused_.end(), usable); it != paused_.end()) {
    ReleasePages(**it);
    return true;
  }
  const auto it = std::find_if(waiting_.rbegin(), waiting_.rend(), usable);
  if (it == waiting_.rend()) return false;
  ReleasePages(**it);
  return true;
}

Sequence* SequencePool::YoungestToPreempt() const {
  const auto it = std::find_if(running_.rbegin(), running_.rend(), [this](const Sequence* one) {
    return one->num_preemptions < config_.max_preemptions;
  });
  return it == running_.rend() ? nullptr : *it;
}

void SequencePool::ReleasePages(Sequence& sequence) {
  sequence.num_once_computed =
      std::max(sequence.num_once_computed, sequence.cursor.num_computed_tokens);
  cache_.Release(sequence.cursor);
  if (sequence.started) preempts_.push_back(sequence.id);
}

void SequencePool::Reserve(Sequence& sequence, int num_tokens) {
  CHECK_OK(cache_.Reserve(sequence.cursor, num_tokens));
}

void SequencePool::Commit(Sequence& sequence, int num_tokens) {
  cache_.Commit(sequence.cursor, num_tokens);
}

void SequencePool::TakeEnds(StepPlan& plan) {
  plan.preempts = std::exchange(preempts_, {});
  plan.ends = std::exchange(ends_, {});
}

Sequence* SequencePool::Find(SequenceId id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : it->second.get();
}

int64_t SequencePool::num_queued_tokens() const {
  int64_t queued = 0;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->catching_up()) queued += sequence->num_uncomputed();
  }
  return queued;
}

}  // namespace krait
