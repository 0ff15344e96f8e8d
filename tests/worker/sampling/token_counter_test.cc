#include "worker/sampling/token_counter.h"

#include <map>

#include "gtest/gtest.h"

namespace krait {
namespace {

std::map<TokenId, int> Counts(const VocabShard& shard, const std::vector<TokenId>& history,
                              int prompt_tokens, const std::vector<TokenId>& drafts = {}) {
  TokenCounter counter(shard);
  std::map<TokenId, int> counts;
  for (const TokenCount& count : counter.Count({nullptr, history, prompt_tokens, drafts})) {
    EXPECT_TRUE(counts.empty() || counts.rbegin()->first < count.id) << "by rising id, each once";
    counts[count.id] = count.output_count;
  }
  return counts;
}

TEST(TokenCounterTest, OutputBeginsWithTheFirstTokenAfterThePrompt) {
  const VocabShard shard{.begin = 0, .end = 100};
  using Map = std::map<TokenId, int>;
  EXPECT_EQ(Counts(shard, {5, 7, 5}, 3), (Map{{5, 0}, {7, 0}}));
  EXPECT_EQ(Counts(shard, {5, 7, 5, 9}, 3), (Map{{5, 0}, {7, 0}, {9, 1}}));
  EXPECT_EQ(Counts(shard, {5, 7, 5, 5, 9, 5}, 3), (Map{{5, 2}, {7, 0}, {9, 1}}));
}

TEST(TokenCounterTest, DraftsCountAsOutput) {
  const VocabShard shard{.begin = 0, .end = 100};
  using Map = std::map<TokenId, int>;
  EXPECT_EQ(Counts(shard, {5, 7}, 2, {7, 8, 8}), (Map{{5, 0}, {7, 1}, {8, 2}}));
  EXPECT_EQ(Counts(shard, {5, 7, 8}, 2, {8}), (Map{{5, 0}, {7, 0}, {8, 2}}));
}

TEST(TokenCounterTest, RowsOfOneHistoryCountTheirOwnDraftsOnly) {
  const VocabShard shard{.begin = 0, .end = 100};
  const std::vector<TokenId> history = {5, 6}, drafts = {7, 8, 7};
  TokenCounter counter(shard);
  const auto size = [&](int num_drafts) {
    return counter.Count({nullptr, history, 1, absl::MakeConstSpan(drafts).first(num_drafts)})
        .size();
  };
  EXPECT_EQ(size(0), 2u);
  EXPECT_EQ(size(3), 4u);
  EXPECT_EQ(size(1), 3u);
  EXPECT_EQ(size(0), 2u);
}

TEST(TokenCounterTest, OnlyTokensOfTheShardCount) {
  using Map = std::map<TokenId, int>;
  EXPECT_EQ(Counts({.begin = 6, .end = 8}, {5, 6, 8}, 1, {7, 9}), (Map{{6, 1}, {7, 1}}));
  EXPECT_EQ(Counts({.ids = {5, 9}}, {5, 6, 8}, 1, {7, 9}), (Map{{5, 0}, {9, 1}}));
}

}  // namespace
}  // namespace krait
