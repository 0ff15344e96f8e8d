#include "worker/server/draft_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/prefix_hash.h"

namespace krait {
namespace {

using ::testing::ElementsAre;

// Knows which sequences are begun and not released.
class CountingProposer final : public Proposer {
 public:
  void Begin(SequenceId id, absl::Span<const TokenId> prompt, int, const SamplingParams&) override {
    EXPECT_TRUE(live.insert(id).second);
    last_prompt.assign(prompt.begin(), prompt.end());
  }
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration) override {
    return std::vector<std::vector<TokenId>>(rows.size());
  }
  void Release(SequenceId id) override { EXPECT_EQ(live.erase(id), 1u); }
  ProposalOutcome last_outcome() const override { return {}; }

  std::set<SequenceId> live;
  std::vector<TokenId> last_prompt;
};

class DraftTableTest : public ::testing::Test {
 protected:
  DraftSequence* Update(int64_t id, int from, std::vector<TokenId> tokens,
                        const std::string& target = "t") {
    return table_.Update(target, {.sequence_id = id,
                                  .from_position = from,
                                  .tokens = std::move(tokens),
                                  .prompt_tokens = 2});
  }

  CountingProposer proposer_;
  DraftTable table_{&proposer_, /*max_sequences=*/2, /*max_context_tokens=*/6};
};

TEST_F(DraftTableTest, ExtendsWhatItKnows) {
  Update(1, 0, {5, 6, 7});
  EXPECT_THAT(proposer_.last_prompt, ElementsAre(5, 6));
  const DraftSequence* sequence = Update(1, 3, {8});
  EXPECT_THAT(sequence->tokens, ElementsAre(5, 6, 7, 8));
  EXPECT_EQ(sequence->hash, PrefixHash(sequence->tokens));
}

TEST_F(DraftTableTest, RepeatedAndOldUpdatesChangeNothing) {
  Update(1, 0, {5, 6, 7});
  EXPECT_THAT(Update(1, 0, {5, 6})->tokens, ElementsAre(5, 6, 7));
  EXPECT_THAT(Update(1, 2, {7, 8})->tokens, ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(Update(1, 4, {})->tokens, ElementsAre(5, 6, 7, 8));
}

TEST_F(DraftTableTest, AGapIsNotFilled) {
  EXPECT_EQ(Update(1, 3, {8}), nullptr);
  Update(1, 0, {5, 6});
  EXPECT_THAT(Update(1, 3, {8})->tokens, ElementsAre(5, 6));
}

TEST_F(DraftTableTest, AContradictionBeginsAnew) {
  const SequenceId first = Update(1, 0, {5, 6, 7})->id;
  const DraftSequence* second = Update(1, 0, {5, 9});
  EXPECT_NE(second->id, first);
  EXPECT_THAT(second->tokens, ElementsAre(5, 9));
  EXPECT_EQ(Update(1, 1, {8}), nullptr) << "from the middle it cannot begin";
  EXPECT_TRUE(proposer_.live.empty());
}

TEST_F(DraftTableTest, TheOneUsedLongestAgoMakesRoom) {
  Update(1, 0, {1});
  Update(2, 0, {2});
  Update(1, 1, {1});
  Update(3, 0, {3});
  EXPECT_EQ(table_.Find("t", 2), nullptr);
  EXPECT_NE(table_.Find("t", 1), nullptr);
  EXPECT_EQ(proposer_.live.size(), 2u);
}

TEST_F(DraftTableTest, TargetsDoNotShareSequences) {
  Update(1, 0, {1}, "a");
  Update(1, 0, {2}, "b");
  EXPECT_THAT(table_.Find("a", 1)->tokens, ElementsAre(1));
  table_.Release("a", 1);
  EXPECT_EQ(table_.Find("a", 1), nullptr);
  EXPECT_NE(table_.Find("b", 1), nullptr);
}

TEST_F(DraftTableTest, StopsAtItsContext) {
  EXPECT_EQ(Update(1, 0, {1, 2, 3, 4, 5, 6, 7, 8})->tokens.size(), 6u);
}

TEST_F(DraftTableTest, BehindNamesTheSequenceUsedLast) {
  EXPECT_EQ(table_.Behind(), nullptr);
  Update(1, 0, {1});
  Update(2, 0, {2});
  EXPECT_EQ(table_.Behind(), table_.Find("t", 2));
  table_.Find("t", 2)->catch_up_calls = 0;
  EXPECT_EQ(table_.Behind(), table_.Find("t", 1));
}

}  // namespace
}  // namespace krait
