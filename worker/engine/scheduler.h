#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "worker/engine/sequence_pool.h"
#include "worker/runner/step_plan.h"
#include "worker/speculative/lookahead_policy.h"

namespace krait {

struct SchedulerConfig {
  SequencePoolConfig pool;
  int max_num_batched_tokens = 256;  // of one step; at least max_running
  // Generated tokens that one sequence computes again in one step: the decode path is made for few
  // rows a sequence.
  int max_known_drafts = 64;
};

// How many drafts each wants, at most its limit. Asked before prompts get what is left of the step.
using DraftChooser = absl::FunctionRef<std::vector<int>(absl::Span<const DraftLimit>)>;

struct ScheduledStep {
  StepPlan plan;                      // without drafts as yet
  std::vector<int> num_draft_tokens;  // of each work: what its pages and the budget allow
  PoolChanges changes;
  int prefill_tokens = 0;     // of prompts, for the first time
  int recomputed_tokens = 0;  // of prompts and outputs, lost to preemptions
  int prefill_sequences = 0;
  int decode_rows = 0;
};

// What a step did to one sequence.
struct Progress {
  SequenceId id = 0;
  SequenceId request = 0;
  int choice = 0;
  int first_index = 0;  // of token_ids, in the output
  std::vector<TokenId> token_ids;
  std::vector<PositionLogprobs> logprobs;
  int num_drafts = 0;  // verified
  int num_accepted = 0;
  StopCause stop = StopCause::kNone;
  bool finite = true;
};

// Continuous batching: what the running sequences do in the next step. First the decoding ones, one
// token and their drafts each; then, oldest first, those whose known tokens are not yet computed,
// in chunks that fill the rest of max_num_batched_tokens: prompts, and after a preemption the
// generated tokens. A chunk never crosses the end of the prompt (ComputePath). Who runs is the
// SequencePool's.
//
// A step without drafts has one outcome but for the ids that it draws, so it can be assumed done as
// soon as it is started: the next one is then scheduled before its results are known. A sequence
// that turns out to have stopped has then run once too often, in pages that were its own until the
// next step. A state machine without clock, threads or tensors. Engine thread only.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);

  // As SequencePool has them.
  void Add(std::unique_ptr<Sequence> sequence) { pool_.Add(std::move(sequence)); }
  bool End(SequenceId id) { return pool_.End(id); }
  void Pause(SequenceId id) { pool_.Pause(id); }
  void Resume(SequenceId id) { pool_.Resume(id); }
  std::vector<SequenceId> Expired(absl::Duration now) const { return pool_.Expired(now); }

  // The next step; nothing if there is no work. Follow with Apply or Assume before the next
  // Schedule.
  std::optional<ScheduledStep> Schedule(DraftChooser choose_drafts);
  // Takes `plan`, the last step's and without drafts, for done. Before anything else is changed.
  void Assume(const StepPlan& plan);
  // Commits what the ranks drew for `plan`, with its drafts: the first step's that was assumed, or
  // else the last one's. Sequences that stopped, or were not finite, have then ended. Those that
  // ended before are passed over.
  std::vector<Progress> Apply(const StepPlan& plan, const StepResult& result);
  // Whether nothing that runs is drawn by the host: then running ahead holds up nobody.
  bool DrawsOnDevices() const;
  // Those that decode, and how many drafts each may verify in the next step.
  std::vector<DraftLimit> DraftLimits() const;

  const Sequence* Find(SequenceId id) const { return pool_.Find(id); }  // valid until it ends
  int num_running() const { return static_cast<int>(pool_.running().size()); }
  int num_waiting() const { return pool_.num_waiting(); }
  int num_paused() const { return pool_.num_paused(); }
  int64_t num_queued_tokens() const { return pool_.num_queued_tokens(); }  // known, not computed
  const CacheManager& cache() const { return pool_.cache(); }

 private:
  std::vector<int> ChooseDrafts(DraftChooser choose_drafts) const;
  void ScheduleDecodes(DraftChooser choose_drafts, ScheduledStep& step);
  void ScheduleKnownTokens(ScheduledStep& step);
  void AddChunk(Sequence& sequence, int num_tokens, ScheduledStep& step);
  void AddWork(Sequence& sequence, int num_tokens, int num_drafts, ScheduledStep& step);
  bool KnownTokensWait() const;
  Progress Commit(const SequenceWork& work, const SequenceResult& result, Sequence& sequence);
  Progress Settle(const SequenceResult& result, Sequence& sequence);
  static void AppendDraws(const SequenceResult& result, Sequence& sequence, Progress& progress);

  const SchedulerConfig config_;
  SequencePool pool_;
  int64_t next_step_id_ = 1;
  std::deque<int64_t> assumed_;  // ids of steps whose results are not known, oldest first
};

}  // namespace krait
