#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "worker/engine/engine.h"
#include "worker/engine/mailbox.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/stream.h"
#include "worker/speculative/speculative_decoder.h"

namespace krait {

// What the engine thread owns and does: takes commands out of the mailbox, runs steps, sends what
// they drew. Created, run and destroyed by the engine thread.
class EngineThread {
 public:
  // Pointers outlive this; `proposer` may be null.
  EngineThread(const EngineConfig& config, std::unique_ptr<StepExecutor> executor,
               Proposer* proposer, const Clock* clock, EngineObserver* observer, Mailbox* mailbox);

  // A one-token step on all ranks.
  absl::Status WarmUp();
  // Until the mailbox is closed or a step fails. Every live request has then been ended. Returns
  // what failed.
  absl::Status Run();

 private:
  void Take(Mailbox::Commands commands);
  void Start(Submission submission);
  std::unique_ptr<Sequence> MakeSequence(const Submission& submission, int choice) const;
  void StopChoice(SequenceId request, int choice);
  void SetPaused(SequenceId request, bool paused);
  void EndExpired();
  void EndSlowReaders();
  // A step that was started and not finished.
  struct Flight {
    StartedStep step;
    StepStats stats;  // what is known of it
    absl::Duration start;
    absl::Duration handed_over;  // to the ranks
  };

  // False if nobody has anything to do.
  absl::StatusOr<bool> RunStep();
  bool StartStep();  // false if there is none
  absl::Status FinishStep();
  absl::Status FinishDueSteps();
  bool MayRunAhead() const;
  void ForeseeDrafts();
  std::vector<int> ChooseDrafts(absl::Span<const DraftLimit> limits);
  StartedStep Decode(ScheduledStep& step);
  void Deliver(std::vector<Progress> progress, StepStats& stats);
  void Measure(const Progress& progress, Stream& stream, StepStats& stats);
  // The one gate: every request ends here with all its choices, whatever ended it. `request`: its
  // first choice's id.
  void Finish(SequenceId request, const absl::Status& status);
  void FinishAll(const absl::Status& status);
  void PublishLoad();

  const EngineConfig config_;
  const std::unique_ptr<StepExecutor> executor_;
  Proposer* const proposer_;
  const Clock* const clock_;
  EngineObserver* const observer_;
  Mailbox* const mailbox_;
  Scheduler scheduler_;
  SpeculativeDecoder decoder_;
  std::deque<Flight> flights_;  // oldest first: at most one, and one more while a step is started
  absl::Duration last_finish_ = -absl::InfiniteDuration();
  // Drafts of the next step, where they are chosen before it is scheduled: whether to finish the
  // last one first depends on them.
  std::optional<absl::flat_hash_map<SequenceId, int>> foreseen_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<Stream>> streams_;  // by the first choice's id
};

}  // namespace krait
