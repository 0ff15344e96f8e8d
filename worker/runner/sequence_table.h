#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/token.h"
#include "worker/cache/cache_spec.h"
#include "worker/runner/step_plan.h"
#include "worker/sampling/sampling_params.h"

namespace krait {

// What a rank knows of a live sequence. Equal on every rank after every step.
struct RankSequence {
  std::vector<TokenId> tokens;  // prompt, then every committed draw
  int prompt_tokens = 0;
  SamplingParams sampling;
  std::vector<PageId> page_table;
  int num_computed = 0;  // tokens whose K and V are final
  StateSlotId state_slot = kNullSlot;
  int state_position = 0;  // tokens before it are in the slot's stored state
  int64_t last_step = -1;  // that named it
  // The last of `tokens` is kNoToken as yet: this row of the logits of `pending_step` has drawn it,
  // and nobody has read it. -1: all are known.
  int pending_draw = -1;
  int64_t pending_step = -1;
  // A row was not finite: it may only end.
  bool failed = false;
};

// What a sequence held; another's from now on.
struct FreedCache {
  std::vector<PageId> pages;
  StateSlotId state_slot = kNullSlot;
};

// The limits a plan is held against.
struct SequenceLimits {
  int64_t vocab_size = 0;
  int max_positions = 0;
  int page_size = 0;
  int num_pages = 0;
  int num_state_slots = 0;
};

// The live sequences of one rank. It checks what a plan claims before anything runs, for a plan
// that contradicts the table means that rank 0 and this rank no longer speak of the same state.
// Rank thread only. Every error is INTERNAL and names the sequence and the value.
class SequenceTable {
 public:
  explicit SequenceTable(const SequenceLimits& limits) : limits_(limits) {}

  absl::Status Start(const SequenceStart& start);
  // What it held; its tokens stay, none of them computed.
  absl::StatusOr<FreedCache> Preempt(SequenceId id);
  // What it held.
  absl::StatusOr<FreedCache> End(SequenceId id);
  // Appends the new pages and returns the sequence, if `work` fits it and it has no other work in
  // `step_id`.
  absl::StatusOr<RankSequence*> Prepare(const SequenceWork& work, int64_t step_id);

  RankSequence* Find(SequenceId id) const;  // null if it is unknown

  int size() const { return static_cast<int>(sequences_.size()); }

 private:
  absl::Status CheckSlot(const RankSequence& sequence, const SequenceWork& work) const;
  absl::Status CheckTokens(SequenceId id, const std::vector<TokenId>& tokens) const;
  absl::Status CheckWork(const RankSequence& sequence, const SequenceWork& work,
                         int64_t step_id) const;
  absl::Status CheckPath(const RankSequence& sequence, const SequenceWork& work) const;
  absl::Status CheckPages(const RankSequence& sequence, const SequenceWork& work) const;

  const SequenceLimits limits_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<RankSequence>> sequences_;
};

}  // namespace krait
