#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/bounded_queue.h"
#include "common/clock.h"
#include "worker/cache/cache_manager.h"
#include "worker/server/draft_table.h"
#include "worker/speculative/proposer.h"

namespace krait {

// What one call asks of the draft: bring sequences up to date, then perhaps propose.
struct DraftJob {
  struct Row {
    DraftUpdate update;
    int num_draft_tokens = 0;
    int base_position = 0;
    uint64_t base_hash = 0;
  };
  struct Answer {
    int64_t sequence_id = 0;
    uint64_t hash = 0;  // of the tokens that were continued
    int known_tokens = 0;
    std::vector<TokenId> drafts;
  };
  std::string target;
  bool propose = false;
  absl::Duration deadline;  // of a proposal, on the clock
  std::vector<Row> rows;
  std::function<void(std::vector<Answer>)> reply;  // once, on the runner's thread
};

// The only thread that touches the draft's model. Proposals come first; with none to make, it
// catches up with what has been committed, a slice at a time.
class DraftRunner {
 public:
  // `clock` outlives this. At most `max_sequences` are kept; the one used longest ago makes room.
  // `cache`: the proposer's, to tell of; may be null.
  DraftRunner(std::unique_ptr<Proposer> proposer, const CacheManager* cache, int max_sequences,
              int max_context_tokens, const Clock* clock);
  // Answers what is queued, then joins.
  ~DraftRunner();

  // False if the queue is full; the job is then untouched. Thread-safe.
  bool TryPost(DraftJob&& job);
  bool TryRelease(const std::string& target, std::vector<int64_t> sequence_ids);

  // For metrics: what has been done since the start. Thread-safe.
  struct Counts {
    int64_t proposals = 0;  // rows that asked
    int64_t drafts = 0;     // tokens proposed
    int64_t late = 0;       // rows whose time was up before they were looked at
    int64_t pages_used = 0;
    int64_t state_slots_used = 0;
  };
  Counts counts() const;

 private:
  using Command = std::function<void()>;

  void Run();
  void Handle(DraftJob& job);
  void Propose(const DraftJob& job, std::vector<DraftJob::Answer>& answers);
  void CatchUp();
  void CountCache();

  const std::unique_ptr<Proposer> proposer_;
  const CacheManager* const cache_;
  const Clock* const clock_;
  BoundedQueue<Command> queue_{256};
  std::atomic<bool> stopping_{false};
  // The runner's thread only.
  DraftTable table_;

  mutable absl::Mutex mutex_;
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace krait
