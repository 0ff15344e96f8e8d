#pragma once

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"
#include "kernels/ops/recurrent_batch.h"
#include "worker/engine/engine_interface.h"
#include "worker/speculative/proposer.h"

namespace krait {

// What one step did.
struct StepStats {
  absl::Duration duration;    // of the whole step
  absl::Duration scheduling;  // of it, choosing what runs
  absl::Duration draft_wait;  // of it, waiting for proposals
  absl::Duration model;       // of it, waiting for the ranks
  absl::Duration delivery;    // of it, applying the result and handing out tokens
  int prefill_tokens = 0;     // prompt tokens computed for the first time
  int recomputed_tokens = 0;  // prompt and generated tokens computed again after a preemption
  int decode_rows = 0;        // sequences that drew
  int generated_tokens = 0;
  int prefill_sequences = 0;      // sequences with prompt tokens in this step
  int speculating_sequences = 0;  // of decode_rows, with K > 0
  int plain_sequences = 0;        // of decode_rows, with K = 0
  int preemptions = 0;            // before this step
  bool ran_ahead = false;         // it was started before the one before it was finished
  int draft_tokens = 0;
  int accepted_tokens = 0;
  StateTraffic state_traffic;  // of rank 0
  ProposalOutcome proposals;
  std::string_view speculation_disabled_reason;  // empty: not disabled
};

// Receives the engine's measurements: metrics in a server, counters in tests. Engine thread only;
// must not wait.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepStats& stats) = 0;
  virtual void OnAccepted(int position, bool accepted) = 0;  // draft `position` (from 0) of a round
  virtual void OnFirstToken(absl::Duration since_submit) = 0;
  virtual void OnInterToken(absl::Duration gap) = 0;
  virtual void OnFinished(const absl::Status& status, FinishReason reason, int prompt_tokens,
                          int completion_tokens, absl::Duration since_submit) = 0;
  virtual void OnNonFinite() = 0;
};

}  // namespace krait
