#pragma once

#include <vector>

#include "kernels/ops/sampling.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {

// Counts how often tokens have occurred before a row, as the penalties need it. Rows of one
// verification share their history, so the last history's counts are kept. Lives for one Sample
// call: the spans it was given must stay valid.
class TokenCounter {
 public:
  explicit TokenCounter(const VocabShard& shard) : shard_(shard) {}

  // Of the tokens in history + drafts that belong to this shard, by rising id. Drafts and the
  // history beyond `prompt_tokens` count as output.
  std::vector<TokenCount> Count(const SampleRow& row);

 private:
  void CountHistory(const SampleRow& row);

  const VocabShard& shard_;
  absl::Span<const TokenId> history_;
  int prompt_tokens_ = -1;
  std::vector<TokenCount> counts_;  // of history_
};

}  // namespace krait
