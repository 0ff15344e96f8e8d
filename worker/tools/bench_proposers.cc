#include "worker/tools/bench_proposers.h"

#include <algorithm>
#include <utility>

namespace krait {

void TraceProposer::SetTrace(std::vector<TokenId> tokens) {
  absl::MutexLock lock(&mutex_);
  trace_ = std::move(tokens);
}

std::vector<std::vector<TokenId>> TraceProposer::Propose(absl::Span<const ProposalRow> rows,
                                                         absl::Duration budget) {
  absl::MutexLock lock(&mutex_);
  outcome_ = {};
  std::vector<std::vector<TokenId>> drafts;
  for (const ProposalRow& row : rows) {
    const size_t begin = std::min(row.tokens.size(), trace_.size());
    const size_t end = std::min(begin + row.num_draft_tokens, trace_.size());
    drafts.emplace_back(trace_.begin() + begin, trace_.begin() + end);
    for (TokenId& id : drafts.back()) {
      const bool right = std::uniform_real_distribution<double>()(random_) < acceptance_;
      if (!right) id = (id + 1) % vocab_size_;
    }
    ++(drafts.back().empty() ? outcome_.empty : outcome_.ok);
  }
  return drafts;
}

std::vector<std::vector<TokenId>> RandomProposer::Propose(absl::Span<const ProposalRow> rows,
                                                          absl::Duration budget) {
  outcome_ = {.ok = static_cast<int>(rows.size())};
  std::vector<std::vector<TokenId>> drafts;
  for (const ProposalRow& row : rows) {
    std::vector<TokenId>& ids = drafts.emplace_back(row.num_draft_tokens);
    for (TokenId& id : ids) id = static_cast<TokenId>(random_() % vocab_size_);
  }
  return drafts;
}

}  // namespace krait
