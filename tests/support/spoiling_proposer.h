#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "worker/speculative/proposer.h"

namespace krait::testing {

// Knows the outputs and spoils its list at the first, second, ... token in turn, the end included.
class SpoilingProposer final : public Proposer {
 public:
  // `whole`: each generation's prompt and output. `spoils`: or all drafts are right.
  explicit SpoilingProposer(std::vector<std::vector<TokenId>> whole, bool spoils = true)
      : whole_(std::move(whole)), spoils_(spoils) {}

  void Begin(SequenceId, absl::Span<const TokenId>, int, const SamplingParams&) override {}
  void Release(SequenceId) override {}
  ProposalOutcome last_outcome() const override { return {}; }
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration) override {
    std::vector<std::vector<TokenId>> drafts;
    for (const ProposalRow& row : rows) drafts.push_back(Spoiled(row));
    return drafts;
  }

 private:
  std::vector<TokenId> Spoiled(const ProposalRow& row) {
    const auto is_prefix = [&](const auto& tokens) {
      return tokens.size() >= row.tokens.size() &&
             std::equal(row.tokens.begin(), row.tokens.end(), tokens.begin());
    };
    const auto found = std::find_if(whole_.begin(), whole_.end(), is_prefix);
    if (found == whole_.end()) return {};
    const auto begin = found->begin() + row.tokens.size();
    std::vector<TokenId> drafts(begin, std::min(begin + row.num_draft_tokens, found->end()));
    const size_t wrong = round_++ % (row.num_draft_tokens + 1);
    if (spoils_ && wrong < drafts.size()) drafts[wrong] ^= 1;
    return drafts;
  }

  const std::vector<std::vector<TokenId>> whole_;
  const bool spoils_;
  int round_ = 0;
};

}  // namespace krait::testing
