#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/token.h"
#include "worker/sampling/sampling_params.h"
#include "worker/speculative/proposer.h"

namespace krait {

// Tokens of one sequence from `from_position` on.
struct DraftUpdate {
  int64_t sequence_id = 0;  // unique within one target
  int from_position = 0;
  std::vector<TokenId> tokens;
  SamplingParams sampling;  // of an update from position 0
  int prompt_tokens = 0;    // the same
};

// A sequence as the draft knows it.
struct DraftSequence {
  SequenceId id = 0;  // the proposer's name for it
  std::vector<TokenId> tokens;
  uint64_t hash = 0;  // PrefixHash(tokens)
  // Calls after which the proposer has surely seen all tokens: each feeds at least 16 of them.
  int catch_up_calls = 0;
  std::list<std::pair<std::string, int64_t>>::iterator used;
};

// The committed tokens that targets have told the draft, and the proposer's names for their
// sequences. Bounded: beyond `max_sequences` the one used longest ago is forgotten, and a sequence
// longer than `max_context_tokens` is not extended. Runner's thread only.
class DraftTable {
 public:
  // `proposer` outlives this.
  DraftTable(Proposer* proposer, int max_sequences, int max_context_tokens);

  // Applies an update as far as it joins what is known; tokens that contradict what is known win.
  // Returns the sequence, or null if it is unknown and the update does not begin it.
  DraftSequence* Update(const std::string& target, const DraftUpdate& update);
  DraftSequence* Find(const std::string& target, int64_t sequence_id);
  void Release(const std::string& target, int64_t sequence_id);

  // The sequence used last among those that the proposer may not have caught up with; null if none.
  DraftSequence* Behind();
  int size() const { return static_cast<int>(sequences_.size()); }

 private:
  using Key = std::pair<std::string, int64_t>;  // target instance, its sequence id

  DraftSequence& Begin(const Key& key, const DraftUpdate& update);
  void Extend(DraftSequence& sequence, const DraftUpdate& update);
  void Drop(std::map<Key, DraftSequence>::iterator it);

  Proposer* const proposer_;
  const int max_sequences_;
  const int max_context_tokens_;
  std::map<Key, DraftSequence> sequences_;
  std::list<Key> uses_;  // newest first
  SequenceId next_id_ = 1;
};

}  // namespace krait
