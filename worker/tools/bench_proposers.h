#pragma once

#include <random>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/speculative/proposer.h"

namespace krait {

// Drafts that cost nothing and are right as often as wanted: the tokens the target itself drew
// before, each with a chance of being another one. Only for sequences with the trace's prompt and
// sampling. Thread-safe.
class TraceProposer final : public Proposer {
 public:
  // `acceptance`: the chance that a draft is right if those before it were.
  TraceProposer(double acceptance, int vocab_size, uint32_t seed)
      : acceptance_(acceptance), vocab_size_(vocab_size), random_(seed) {}

  // `tokens`: prompt and output.
  void SetTrace(std::vector<TokenId> tokens);

  void Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
             const SamplingParams& sampling) override {}
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration budget) override;
  void Release(SequenceId id) override {}
  ProposalOutcome last_outcome() const override { return outcome_; }

 private:
  const double acceptance_;
  const int vocab_size_;
  absl::Mutex mutex_;
  std::mt19937 random_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenId> trace_ ABSL_GUARDED_BY(mutex_);
  ProposalOutcome outcome_;
};

// Drafts that cost nothing and are nearly always wrong. Engine thread only.
class RandomProposer final : public Proposer {
 public:
  RandomProposer(int vocab_size, uint32_t seed) : vocab_size_(vocab_size), random_(seed) {}

  void Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
             const SamplingParams& sampling) override {}
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration budget) override;
  void Release(SequenceId id) override {}
  ProposalOutcome last_outcome() const override { return outcome_; }

 private:
  const int vocab_size_;
  std::mt19937 random_;
  ProposalOutcome outcome_;
};

}  // namespace krait
