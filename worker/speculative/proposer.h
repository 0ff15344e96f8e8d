#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/token.h"
#include "worker/sampling/sampling_params.h"
#include "worker/sampling/token_masses.h"

namespace krait {

// A row that wants drafts.
struct ProposalRow {
  SequenceId id = 0;
  absl::Span<const TokenId> tokens;  // prompt and committed output; valid during the call
  uint64_t hash = 0;                 // PrefixHash(tokens)
  int num_draft_tokens = 0;          // at most so many
};

// What became of the last Propose, for metrics.
struct ProposalOutcome {
  int ok = 0;         // rows with at least one usable draft
  int empty = 0;      // rows the proposer had nothing for
  int late = 0;       // rows lost to the deadline
  int stale = 0;      // wrong instance, round, position or hash
  int malformed = 0;  // ids outside the vocabulary, or too many
  int error = 0;      // transport
};

// Proposes draft tokens. Nothing it does can change a token that is emitted, only how many come a
// step (with masses: the law of a token). It never mutates a sequence: where it stands with one is
// its own cursor. Engine thread (or the draft worker's runner thread) only.
class Proposer {
 public:
  virtual ~Proposer() = default;

  // A sequence begins; the proposer may start to prefill. `prompt` is valid during the call.
  virtual void Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
                     const SamplingParams& sampling) = 0;
  // One list a row, in order: at most num_draft_tokens ids of the target's vocabulary, possibly
  // none. Returns within about `budget`.
  virtual std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                                    absl::Duration budget) = 0;
  // What each draft of the last Propose was drawn from, for rejection sampling: a list a row, as
  // long as its drafts. Empty lists, or none: the drafts are compared with the target's own draws.
  virtual std::vector<std::vector<SharedMasses>> TakeMasses() { return {}; }
  // The sequence has ended. Unknown ids are ignored.
  virtual void Release(SequenceId id) = 0;

  virtual ProposalOutcome last_outcome() const = 0;
  // Why no drafts can come at present ("tokenizer_mismatch", "token_map", "disconnected"); empty if
  // they can.
  virtual std::string_view disabled_reason() const { return ""; }
};

}  // namespace krait
