#include "worker/speculative/ngram_proposer.h"

#include <algorithm>

namespace krait {
namespace {

// How many tokens before `end` equal the last tokens, at most `limit`.
int MatchLength(absl::Span<const TokenId> tokens, int end, int limit) {
  const int size = static_cast<int>(tokens.size());
  int length = 0;
  while (length < limit && length < end && tokens[end - 1 - length] == tokens[size - 1 - length]) {
    ++length;
  }
  return length;
}

}  // namespace

std::vector<TokenId> NgramProposer::Lookup(absl::Span<const TokenId> tokens,
                                           int num_draft_tokens) const {
  const int size = static_cast<int>(tokens.size());
  const int oldest = std::max(1, size - options_.window);
  int best_end = 0, best_length = options_.min_ngram - 1;
  for (int end = size - 1; end >= oldest && best_length < options_.max_ngram; --end) {
    const int length = MatchLength(tokens, end, options_.max_ngram);
    if (length > best_length) {
      best_length = length;
      best_end = end;
    }
  }
  if (best_end == 0) return {};
  const int count = std::min(num_draft_tokens, size - best_end);
  return {tokens.begin() + best_end, tokens.begin() + best_end + count};
}

std::vector<std::vector<TokenId>> NgramProposer::Propose(absl::Span<const ProposalRow> rows,
                                                         absl::Duration budget) {
  outcome_ = {};
  std::vector<std::vector<TokenId>> drafts;
  for (const ProposalRow& row : rows) {
    drafts.push_back(Lookup(row.tokens, row.num_draft_tokens));
    ++(drafts.back().empty() ? outcome_.empty : outcome_.ok);
  }
  return drafts;
}

}  // namespace krait
