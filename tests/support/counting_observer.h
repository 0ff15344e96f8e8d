#pragma once

#include <functional>
#include <map>

#include "worker/engine/engine_observer.h"

namespace krait::testing {

// Adds up what the engine reports. Read it once the engine is idle or gone.
class CountingObserver final : public EngineObserver {
 public:
  void OnStep(const StepStats& stats) override {
    ++steps;
    draft_tokens += stats.draft_tokens;
    accepted_tokens += stats.accepted_tokens;
    prefill_tokens += stats.prefill_tokens;
    preemptions += stats.preemptions;
    recomputed_tokens += stats.recomputed_tokens;
    malformed += stats.proposals.malformed;
    steps_ahead += stats.ran_ahead;
    mixed_steps +=
        stats.prefill_sequences > 0 && stats.speculating_sequences > 0 && stats.plain_sequences > 0;
    if (stats.speculating_sequences == 1) ++accepted_of[stats.draft_tokens][stats.accepted_tokens];
    if (on_step) on_step(stats);
  }
  void OnAccepted(int position, bool accepted) override {}
  void OnFirstToken(absl::Duration since_submit) override { ++first_tokens; }
  void OnInterToken(absl::Duration gap) override {}
  void OnFinished(const absl::Status& status, FinishReason reason, int prompt_tokens,
                  int completion_tokens, absl::Duration since_submit) override {
    ++finished[status.code()];
  }
  void OnNonFinite() override { ++non_finite; }

  std::function<void(const StepStats&)> on_step;
  int64_t steps = 0, draft_tokens = 0, accepted_tokens = 0, prefill_tokens = 0, malformed = 0;
  int64_t preemptions = 0, recomputed_tokens = 0;
  int64_t steps_ahead = 0;
  int64_t mixed_steps = 0;  // prefill, speculating and plain sequences shared them
  int64_t first_tokens = 0, non_finite = 0;
  std::map<int, std::map<int, int64_t>> accepted_of;  // drafts -> accepted -> steps
  std::map<absl::StatusCode, int64_t> finished;
};

}  // namespace krait::testing
