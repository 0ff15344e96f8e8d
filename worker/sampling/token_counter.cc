#include "worker/sampling/token_counter.h"

#include <algorithm>

namespace krait {
namespace {

bool ById(const TokenCount& a, const TokenCount& b) { return a.id < b.id; }

void AddOutput(TokenId id, std::vector<TokenCount>& counts) {
  auto it = std::lower_bound(counts.begin(), counts.end(), TokenCount{id}, ById);
  if (it == counts.end() || it->id != id) it = counts.insert(it, TokenCount{id, 0});
  ++it->output_count;
}

// Makes one entry of all that have the same id.
void Merge(std::vector<TokenCount>& counts) {
  std::sort(counts.begin(), counts.end(), ById);
  size_t size = 0;
  for (const TokenCount& count : counts) {
    if (size > 0 && counts[size - 1].id == count.id) {
      counts[size - 1].output_count += count.output_count;
    } else {
      counts[size++] = count;
    }
  }
  counts.resize(size);
}

}  // namespace

void TokenCounter::CountHistory(const SampleRow& row) {
  history_ = row.history;
  prompt_tokens_ = row.prompt_tokens;
  counts_.clear();
  for (size_t i = 0; i < history_.size(); ++i) {
    const bool output = static_cast<int>(i) >= prompt_tokens_;
    if (shard_.Contains(history_[i])) counts_.push_back({history_[i], output ? 1 : 0});
  }
  Merge(counts_);
}

std::vector<TokenCount> TokenCounter::Count(const SampleRow& row) {
  const bool known = row.history.data() == history_.data() &&
                     row.history.size() == history_.size() && row.prompt_tokens == prompt_tokens_;
  if (!known) CountHistory(row);
  std::vector<TokenCount> counts = counts_;
  for (TokenId id : row.drafts) {
    if (shard_.Contains(id)) AddOutput(id, counts);
  }
  return counts;
}

}  // namespace krait
