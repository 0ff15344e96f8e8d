#pragma once

#include "worker/speculative/proposer.h"

namespace krait {

struct NgramOptions {
  int max_ngram = 4;
  int min_ngram = 2;
  int window = 4096;  // tokens searched, newest first
};

// Prompt lookup: finds the newest earlier occurrence of the sequence's last tokens, longest match
// first, and proposes what followed it. No model, no state; the plain twin of the others.
class NgramProposer final : public Proposer {
 public:
  explicit NgramProposer(const NgramOptions& options = {}) : options_(options) {}

  void Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
             const SamplingParams& sampling) override {}
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration budget) override;
  void Release(SequenceId id) override {}
  ProposalOutcome last_outcome() const override { return outcome_; }

 private:
  std::vector<TokenId> Lookup(absl::Span<const TokenId> tokens, int num_draft_tokens) const;

  const NgramOptions options_;
  ProposalOutcome outcome_;
};

}  // namespace krait
