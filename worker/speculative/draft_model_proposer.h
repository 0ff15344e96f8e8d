#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/clock.h"
#include "worker/cache/cache_manager.h"
#include "worker/speculative/draft_model.h"
#include "worker/speculative/linear_cost.h"
#include "worker/speculative/proposer.h"

namespace krait {

// Drafts with a smaller model. For each sequence it has a cursor of its own: the tokens whose K and
// V its cache holds. A call moves it back to where they part from what has been committed, catches
// up in chunks, then draws one draft a pass for all rows together, with the target's noise and
// processors over its own path. It measures its passes and starts none that would not end within
// the budget, but always one: then the next call is further. Where the device draws, all of these
// passes are started together and read once (DraftModelOptions::chains). For rejection sampling it
// draws with noise of its own, on the host, and keeps what it drew from.
//
// Sequences beyond max_sequences, or beyond its pages, push out those that were used longest ago;
// these begin again when they are asked for. What Begin told is kept until Release.
class DraftModelProposer final : public Proposer {
 public:
  // Loads the draft, on the calling thread; a draft that CheckDraft refuses gives a proposer that
  // is disabled. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<DraftModelProposer>> Create(
      const DraftModelOptions& options, const Clock* clock);

  void Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
             const SamplingParams& sampling) override;
  // A row that wants no drafts is only caught up with.
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration budget) override;
  std::vector<std::vector<SharedMasses>> TakeMasses() override { return std::move(masses_); }
  void Release(SequenceId id) override;
  ProposalOutcome last_outcome() const override { return outcome_; }
  std::string_view disabled_reason() const override { return disabled_reason_; }

  // Null if disabled.
  const DraftModel* model() const { return model_.get(); }
  int max_sequences() const { return max_sequences_; }
  int num_cached() const;  // sequences that hold pages
  const CacheManager& cache() const { return *cache_; }
  // Passes that were started before the one before them was read.
  int64_t num_chained_passes() const { return num_chained_passes_; }

 private:
  struct Entry {
    SamplingParams sampling;
    int prompt_tokens = 0;
    std::vector<TokenId> fed;  // tokens whose K and V are in the cache
    CacheCursor cursor;        // over them
    int state_position = 0;    // of them, how many the stored recurrent states cannot give back
    int64_t last_call = 0;
  };
  // A row of the call that runs.
  struct Drafting {
    const ProposalRow* row = nullptr;
    Entry* entry = nullptr;
    int wanted = 0;
    std::vector<TokenId> drafts;
    std::vector<SharedMasses> masses;  // of the drafts, if they are kept
    bool stopped = false;              // no more can come

    int target() const;  // tokens that must be fed before the next draw, that draw's input included
    int pending() const { return target() - static_cast<int>(entry->fed.size()); }
    bool done() const;
  };
  // What one row feeds in a pass.
  struct Chunk {
    Drafting* drafting = nullptr;
    absl::Span<const TokenId> tokens;
    bool draws = false;
    int pending_draw = -1;  // BatchRow's: `tokens` is what this row of the pass before has drawn
  };
  // A pass's rows, and those of their logits.
  struct Pass {
    std::vector<BatchRow> rows;
    std::vector<SampleRow> samples;
    int num_tokens = 0;
  };

  DraftModelProposer(const Clock* clock, const DraftModelOptions& options)
      : clock_(clock),
        max_sequences_(options.max_sequences),
        for_rejection_(options.for_rejection) {}

  std::vector<Drafting> Attach(absl::Span<const ProposalRow> rows);
  void Rewind(Entry& entry, absl::Span<const TokenId> tokens);
  int TokensWithin(absl::Duration left, bool first_pass, int num_rows) const;
  std::vector<Chunk> PlanPass(std::vector<Drafting>& batch, int max_tokens);
  void AddChunk(Drafting& drafting, int max_tokens, std::vector<Chunk>& chunks);
  bool Reserve(Entry& entry, int num_tokens);
  bool EvictOldest();
  void Drop(Entry& entry);
  static int FinalPosition(const Chunk& chunk);
  Pass PassOf(absl::Span<const Chunk> chunks) const;
  absl::Status RunPass(absl::Span<Chunk> chunks);
  bool MayChain(absl::Span<const Chunk> chunks, int num_rows) const;
  absl::Status RunChain(std::vector<Chunk> chunks, absl::Duration left);
  std::vector<Chunk> NextLinks(absl::Span<const Chunk> chunks, int num_drawn);
  void Feed(const Chunk& chunk);
  static void TakeDraw(TokenId drawn, Drafting& drafting);
  static void NameUnread(Drafting& drafting);
  void Count(const std::vector<Drafting>& batch);

  const Clock* const clock_;
  const int max_sequences_;
  const bool for_rejection_;
  std::string disabled_reason_;
  std::unique_ptr<DraftModel> model_;
  std::unique_ptr<CacheManager> cache_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<Entry>> entries_;
  LinearCost pass_cost_{0.05};
  int64_t call_ = 0;
  int64_t num_chained_passes_ = 0;
  ProposalOutcome outcome_;
  std::vector<std::vector<SharedMasses>> masses_;  // of the last call
};

}  // namespace krait
