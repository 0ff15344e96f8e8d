#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/engine/sequence.h"
#include "worker/runner/step_plan.h"
#include "worker/speculative/lookahead_policy.h"

namespace krait {

struct SchedulerConfig {
  CacheConfig cache;
  int max_running = 64;
  int max_num_batched_tokens = 256;  // of one step; at least max_running
};

// How many drafts each wants, at most its limit. Asked before prompts get what is left of the step.
using DraftChooser = absl::FunctionRef<std::vector<int>(absl::Span<const DraftLimit>)>;

struct ScheduledStep {
  StepPlan plan;                      // without drafts as yet
  std::vector<int> num_draft_tokens;  // of each work: what its pages and the budget allow
  std::vector<SequenceId> admitted;   // sequences that now run
  int prefill_tokens = 0;
  int prefill_sequences = 0;
  int decode_rows = 0;
};

// What a step did to one sequence.
struct Progress {
  SequenceId id = 0;
  int first_index = 0;  // of token_ids, in the output
  std::vector<TokenId> token_ids;
  std::vector<PositionLogprobs> logprobs;
  int num_drafts = 0;  // verified
  int num_accepted = 0;
  StopCause stop = StopCause::kNone;
  bool finite = true;
};

// INVALID_ARGUMENT naming max_tokens if a sequence of so many tokens could never run. Thread-safe.
absl::Status CheckFitsCache(const CacheConfig& cache, int prompt_tokens, int max_tokens);

// Continuous batching: who runs in the next step, with how many tokens. First the decoding
// sequences, one token and their drafts each; prompts, oldest first, in chunks that fill the rest
// of max_num_batched_tokens. First come, first admitted, and only once the pages of the longest
// possible output are set aside: so nothing that runs is ever put back. A state machine without
// clock, threads or tensors. Engine thread only.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);

  // Takes a new sequence, whose id has never been used and which CheckFitsCache.
  void Add(std::unique_ptr<Sequence> sequence);
  // Ends a sequence in whatever state it is; its pages are free at once. False if it is unknown.
  bool End(SequenceId id);
  // Waiting or running sequences whose deadline is not after `now`, by id.
  std::vector<SequenceId> Expired(absl::Duration now) const;

  // The next step; nothing if there is no work. Follow with Apply before the next Schedule.
  std::optional<ScheduledStep> Schedule(DraftChooser choose_drafts);
  // Commits what the ranks drew for `plan`, the last step's with its drafts. Sequences that
  // stopped, or were not finite, have then ended.
  std::vector<Progress> Apply(const StepPlan& plan, const StepResult& result);

  const Sequence* Find(SequenceId id) const;  // valid until it ends
  int num_running() const { return static_cast<int>(running_.size()); }
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  int64_t num_queued_tokens() const;  // prompt tokens not yet computed
  const CacheManager& cache() const { return cache_; }

 private:
  void Admit(ScheduledStep& step);
  std::vector<int> ChooseDrafts(DraftChooser choose_drafts) const;
  void ScheduleDecodes(DraftChooser choose_drafts, ScheduledStep& step);
  void SchedulePrefills(ScheduledStep& step);
  void AddWork(Sequence& sequence, int num_tokens, int num_drafts, ScheduledStep& step);
  bool PromptsWait() const;
  Progress Commit(const SequenceWork& work, const SequenceResult& result);

  const SchedulerConfig config_;
  CacheManager cache_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::deque<Sequence*> waiting_;   // oldest first
  std::vector<Sequence*> running_;  // in the order of admission
  std::vector<SequenceId> ends_;    // the ranks do not know yet
  int64_t next_step_id_ = 1;
};

}  // namespace krait
