#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "worker/engine/sequence.h"
#include "worker/runner/step_plan.h"

namespace krait {

struct SequencePoolConfig {
  CacheConfig cache;
  int max_running = 64;
  // Output tokens whose pages a sequence has set aside when it is admitted, beyond what is known.
  int reserved_output_tokens = 1024;
  int max_preemptions = 3;   // of one sequence; then its whole output is set aside
  int max_paused_pages = 0;  // held by paused sequences together; 0: a quarter of all
};

// INVALID_ARGUMENT naming max_tokens if so many sequences of so many tokens could never run
// together. Thread-safe.
absl::Status CheckFitsCache(const CacheConfig& cache, int num_choices, int prompt_tokens,
                            int max_tokens);

// What changed since the last step.
struct PoolChanges {
  std::vector<SequenceId> admitted;    // for the first time
  std::vector<SequenceId> readmitted;  // after a preemption or a pause
  std::vector<SequenceId> preempted;   // running ones
};

// Who waits, runs or is paused, and which pages each has. Waiting sequences are admitted in the
// order of their arrival, each once its known tokens and the next reserved_output_tokens fit, the
// choices of a request together: one that was preempted goes before all that came after it. Who
// does not run (paused, then waiting) loses its pages to an admission, if that is enough for it,
// and to those that run. These grow page by page; when none is left the youngest is preempted: it
// loses its pages and waits to have its tokens computed again.
//
// So the oldest always advances, and since a sequence is preempted at most max_preemptions times
// before it holds pages for its whole output, everybody's turn comes. Engine thread only.
class SequencePool {
 public:
  explicit SequencePool(const SequencePoolConfig& config);

  // Takes a new sequence, whose id has never been used and which CheckFitsCache.
  void Add(std::unique_ptr<Sequence> sequence);
  // Ends a sequence in whatever state it is; its pages are free at once. False if it is unknown.
  bool End(SequenceId id);
  // Takes it out of the steps; it keeps its pages until they are needed or the paused hold too
  // many. No effect on an unknown or paused one.
  void Pause(SequenceId id);
  // It waits for its place, before all that came after it. No effect unless it is paused.
  void Resume(SequenceId id);
  // Requests that have a sequence whose deadline is not after `now`, rising.
  std::vector<SequenceId> Expired(absl::Duration now) const;

  // Gives every decoding sequence room for its next token, then admits those that wait.
  PoolChanges Update();
  // Pages for `num_tokens` more, which Update has seen to.
  void Reserve(Sequence& sequence, int num_tokens);
  void Commit(Sequence& sequence, int num_tokens);
  // Moves what the ranks do not know yet into `plan`.
  void TakeEnds(StepPlan& plan);

  Sequence* Find(SequenceId id) const;                                // null if unknown
  const std::vector<Sequence*>& running() const { return running_; }  // oldest first
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  int num_paused() const { return static_cast<int>(paused_.size()); }
  int64_t num_queued_tokens() const;
  const CacheManager& cache() const { return cache_; }

 private:
  // Sequences that arrived from `begin` on, before `end`.
  struct Arrivals {
    int64_t begin = 0;
    int64_t end = 0;
  };

  int NumTogether() const;
  int TokensToAdmit(const Sequence& sequence) const;
  bool CanAdmit(int count) const;
  bool TryAdmit(int count);
  bool Grow(Sequence& sequence, PoolChanges& changes);
  bool IsIdle(const Sequence& sequence, Arrivals keep) const;
  bool FreeIdlePages(Arrivals keep);
  Sequence* YoungestToPreempt() const;
  void ReleasePages(Sequence& sequence);
  void Wait(Sequence* sequence);
  void Leave(Sequence* sequence);
  void BoundPausedPages();

  const SequencePoolConfig config_;
  CacheManager cache_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::deque<Sequence*> waiting_;     // oldest first
  std::vector<Sequence*> running_;    // oldest first
  std::deque<Sequence*> paused_;      // paused longest first
  std::vector<SequenceId> preempts_;  // the ranks do not know yet
  std::vector<SequenceId> ends_;      // the ranks do not know yet
  int64_t next_arrival_ = 0;
};

}  // namespace krait
