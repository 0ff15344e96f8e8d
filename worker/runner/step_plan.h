#pragma once

#include <cstdint>
#include <vector>

#include "common/token.h"
#include "kernels/ops/recurrent_batch.h"
#include "worker/cache/cache_spec.h"
#include "worker/sampling/sampling_params.h"
#include "worker/sampling/token_masses.h"

namespace krait {

// A sequence enters the ranks' tables with everything they need to know of it.
struct SequenceStart {
  SequenceId id = 0;
  std::vector<TokenId> prompt;
  SamplingParams sampling;
};

// Which arithmetic computes a position is decided by the position alone: prompt tokens go through
// the prefill path, generated ones through the decode path, also when they are computed again after
// a preemption. Then a recomputed sequence has the bits of one that was never preempted, whether or
// not the two paths of a backend agree.
enum class ComputePath { kPrefill, kDecode };

// One sequence's part of a step. Ranks know every sequence's committed tokens (they drew them
// themselves), so a plan never names a token that was just sampled: only counts, pages and drafts.
struct SequenceWork {
  SequenceId id = 0;
  ComputePath path = ComputePath::kDecode;  // of all its tokens
  std::vector<PageId> new_pages;            // appended to its page table before the pass
  // Of a model with recurrent layers, with the first work and the first after a preemption: its
  // slot until it ends or is preempted.
  StateSlotId state_slot = kNullSlot;
  // Known tokens to run, from the first one that is not yet computed. kPrefill: a chunk of the
  // prompt. kDecode: 1 for the last drawn token; more are generated tokens computed again, known
  // drafts. Logits and a draw follow only if this reaches the last known token.
  int num_tokens = 1;
  // Then these, each verified. Only on the decode path, when num_tokens reaches the last known
  // token.
  std::vector<TokenId> draft_token_ids;
  // What each draft was drawn from: they are judged by rejection sampling. Empty: a draft is
  // accepted if it is the token drawn in its place. Only among the ranks of one process.
  std::vector<SharedMasses> draft_masses;
};

// What rank 0 decides and every rank executes, identically. Plain data.
struct StepPlan {
  int64_t step_id = 0;  // rises by one
  std::vector<SequenceStart> starts;
  std::vector<SequenceWork> work;
  // Lose their pages before the pass, which may reuse them, and keep their tokens: work for them
  // begins again at position 0.
  std::vector<SequenceId> preempts;
  // Forgotten before the pass, after the preempted; their pages may be reused by it too.
  std::vector<SequenceId> ends;

  int num_tokens() const;  // of the pass
  // Over every field but draft_masses, which ranks share; they compare it before they run.
  uint64_t Hash() const;
};

struct SequenceResult {
  SequenceId id = 0;
  // The draws: accepted drafts and one token more; empty when the chunk did not reach the last
  // known token, or the row was not finite.
  std::vector<TokenId> token_ids;
  int num_accepted = 0;  // of the drafts: token_ids.size() - 1
  bool finite = true;
  std::vector<PositionLogprobs> logprobs;  // one for each token, if asked for
};

struct StepResult {
  int64_t step_id = 0;
  std::vector<SequenceResult> results;  // one for each work, same order
  uint64_t tokens_hash = 0;             // over ids and draws: equal on every rank
  StateTraffic traffic;                 // of this rank's recurrent layers in this step
};

}  // namespace krait
