#pragma once

#include <vector>

#include "absl/time/time.h"
#include "common/prefix_hash.h"
#include "common/token.h"
#include "worker/cache/cache_manager.h"
#include "worker/sampling/sampling_params.h"
#include "worker/sampling/stop_checker.h"

namespace krait {

enum class SequenceState {
  kWaiting,  // to be admitted, for the first time or again
  kRunning,  // has work in the next steps
  kPaused,   // until its client reads
};

// One choice of a request as the scheduler sees it. Drafts never enter `tokens`: a round that fails
// leaves no trace. Engine thread only.
struct Sequence {
  Sequence(SequenceId id, std::vector<TokenId> prompt, const SamplingParams& sampling,
           const StopParams& stop)
      : id(id),
        tokens(std::move(prompt)),
        prompt_tokens(static_cast<int>(tokens.size())),
        sampling(sampling),
        stop(stop),
        max_tokens(stop.max_tokens),
        hash(PrefixHash(tokens)) {}

  const SequenceId id;
  SequenceId request = id;      // its first choice's id; the others' follow
  int choice = 0;               // 0: the first
  std::vector<TokenId> tokens;  // prompt and committed output
  const int prompt_tokens;
  const SamplingParams sampling;
  const StopChecker stop;
  const int max_tokens;
  int max_draft_tokens = 0;  // a round
  absl::Duration deadline = absl::InfiniteDuration();
  uint64_t hash;         // PrefixHash(tokens)
  CacheCursor cursor;    // in the target's cache
  bool started = false;  // the ranks know it
  SequenceState state = SequenceState::kWaiting;
  int64_t arrival = 0;  // rises; the younger of two has the larger
  int num_preemptions = 0;
  int num_once_computed = 0;  // below this, tokens are computed again
  // Tokens that steps under way draw: they follow `tokens`, and nobody knows them yet.
  int num_pending = 0;

  void Append(TokenId id) {
    tokens.push_back(id);
    hash = ExtendPrefixHash(hash, id);
  }
  int num_generated() const { return static_cast<int>(tokens.size()) - prompt_tokens; }
  int num_tokens() const { return static_cast<int>(tokens.size()) + num_pending; }
  // Of max_tokens, pending ones taken for drawn.
  int num_left() const { return max_tokens - (num_tokens() - prompt_tokens); }
  int num_uncomputed() const { return num_tokens() - cursor.num_computed_tokens; }
  // The next position is of the prompt: it goes through the prefill path.
  bool prefilling() const { return cursor.num_computed_tokens < prompt_tokens; }
  // Tokens before the last drawn one are not computed.
  bool catching_up() const { return prefilling() || num_uncomputed() > 1; }
  // Nothing but the last drawn token is not computed, and another one follows.
  bool decoding() const { return !catching_up() && num_left() > 0; }
};

}  // namespace krait
