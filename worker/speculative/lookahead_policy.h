#pragma once

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/token.h"
#include "worker/speculative/linear_cost.h"
#include "worker/speculative/pass_cost.h"

namespace krait {

// A decoding sequence and the most drafts it may verify this step.
struct DraftLimit {
  SequenceId id = 0;
  int max_draft_tokens = 0;
};

// What became of one sequence's drafts in a step.
struct DraftOutcome {
  SequenceId id = 0;
  int asked = 0;  // at least 1
  int proposed = 0;
  int accepted = 0;
};

// A step's measurements.
struct DraftRound {
  absl::Span<const DraftOutcome> outcomes;
  int num_tokens = 0;         // of the pass, drafts included
  bool has_prefill = false;   // then its duration says nothing about decoding
  absl::Duration pass;        // the target's
  absl::Duration draft_wait;  // for proposals
};

// Chooses how many drafts each sequence verifies so that the batch's expected tokens a second are
// largest, from measured acceptance and from the measured cost of a row and of a draft. Where that
// is none, it probes with one draft now and then, so rarely that probing costs about 1.5 % of the
// time, and less after every probe in vain, down to a quarter. Engine thread only.
class LookaheadPolicy {
 public:
  // One number a limit, at most its max_draft_tokens.
  std::vector<int> Choose(absl::Span<const DraftLimit> limits);
  void OnRound(const DraftRound& round);
  void Release(SequenceId id) { habits_.erase(id); }

 private:
  // How all sequences' drafts have fared, as fading means: what a new sequence is expected to do.
  struct Prior {
    double acceptance = 0.6;  // of a draft whose predecessors were accepted
    double coverage = 1.0;    // how often drafts came at all when asked for
    double strength = 3;      // in drafts; grows with what it rests on
  };
  // How a sequence's own have.
  struct Habit {
    double accepted = 0;  // fading sums over the drafts that were judged
    double judged = 0;
    double coverage = 1.0;
  };
  // One more draft for one sequence.
  struct Step {
    double gain = 0;  // expected tokens
    double rows = 0;  // expected rows of the pass
    int depth = 0;    // which draft of its sequence, from 1
    size_t index = 0;
  };

  // The prior counts as drafts of the sequence's own: a few that fail at its start say little.
  double Acceptance(const Habit& habit) const;
  Habit habit(SequenceId id) const;
  void Learn(const DraftOutcome& outcome);
  std::vector<Step> Steps(absl::Span<const DraftLimit> limits) const;
  double PassSeconds(double rows) const;
  // Adds a draft for each sequence that has none, if a probe is due.
  void Probe(absl::Span<const DraftLimit> limits, std::vector<int>& chosen);
  void StartProbeInterval();
  void JudgeProbe(absl::Span<const DraftOutcome> outcomes);

  Prior prior_;
  absl::flat_hash_map<SequenceId, Habit> habits_;
  PassCost pass_cost_;
  LinearCost draft_cost_{1.0};  // by the drafts asked for
  // Since the last probe, or since nothing was left to probe.
  double seconds_since_probe_ = 0;
  int rounds_since_probe_ = 0;
  absl::flat_hash_set<SequenceId> probed_;  // in the round under way
  int vain_probes_ = 0;                     // since the last one with an accepted draft
};

}  // namespace krait
