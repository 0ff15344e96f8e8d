#include "worker/speculative/speculative_decoder.h"

#include <limits>

#include "common/prefix_hash.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/support/scripted_model.h"
#include "worker/speculative/ngram_proposer.h"

namespace krait {
namespace {

using testing::ScriptedModel;

// Returns what it was told to.
class FixedProposer final : public Proposer {
 public:
  void Begin(SequenceId, absl::Span<const TokenId>, int, const SamplingParams&) override {}
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration given) override {
    budget = given;
    return drafts;
  }
  void Release(SequenceId) override {}
  ProposalOutcome last_outcome() const override { return {}; }
  std::string_view disabled_reason() const override { return reason; }

  std::vector<std::vector<TokenId>> drafts;
  absl::Duration budget;
  std::string_view reason;
};

class SpeculativeDecoderTest : public ::testing::Test {
 protected:
  // One sequence whose prompt has been computed.
  void SetUp() override {
    StepPlan plan{.step_id = 1};
    plan.starts.push_back({1, {5, 6}, {}});
    plan.work.push_back(
        {.id = 1, .path = ComputePath::kPrefill, .new_pages = {0}, .num_tokens = 2});
    decoder_.Start(plan, {});
    const auto step = decoder_.Finish();
    ASSERT_TRUE(step.ok());
    tokens_ = {5, 6, step->result.results[0].token_ids[0]};
  }

  DecodedStep StepWith(std::vector<std::vector<TokenId>> drafts, int asked) {
    proposer_.drafts = std::move(drafts);
    StepPlan plan{.step_id = ++step_id_};
    plan.work.push_back({.id = 1, .num_tokens = 1});
    const ProposalRow row{1, tokens_, PrefixHash(tokens_), asked};
    decoder_.Start(plan, {&row, 1});
    auto step = decoder_.Finish();
    EXPECT_TRUE(step.ok());
    for (TokenId id : step->result.results[0].token_ids) {
      EXPECT_EQ(id, testing::ScriptedNext({}, tokens_, 100)) << "drafts change no token";
      tokens_.push_back(id);
    }
    return *std::move(step);
  }

  std::vector<TokenId> Right(int count) {
    std::vector<TokenId> path = tokens_;
    for (int i = 0; i < count; ++i) path.push_back(testing::ScriptedNext({}, path, 100));
    return {path.begin() + tokens_.size(), path.end()};
  }

  ScriptedModel model_{{.vocab_size = 100, .page_size = 1000}};
  FixedProposer proposer_;
  FakeClock clock_;
  SpeculativeDecoder decoder_{{.fixed_draft_tokens = true}, &model_, &proposer_, &clock_};
  std::vector<TokenId> tokens_;
  int64_t step_id_ = 1;
};

TEST_F(SpeculativeDecoderTest, AcceptsTheLongestRightPrefix) {
  for (int right = 0; right <= 4; ++right) {
    std::vector<TokenId> drafts = Right(4);
    if (right < 4) drafts[right] = (drafts[right] + 1) % 100;
    EXPECT_EQ(StepWith({drafts}, 4).result.results[0].num_accepted, right);
  }
}

TEST_F(SpeculativeDecoderTest, DropsProposalsThatBreakTheContract) {
  const std::vector<std::vector<std::vector<TokenId>>> broken = {
      {},                 // no list for the row
      {{1}, {2}},         // one too many
      {{1, 2, 3, 4, 5}},  // longer than asked
      {{-1}},
      {{1, 100}},  // beyond the vocabulary
      {{std::numeric_limits<TokenId>::max()}}};
  for (const auto& drafts : broken) {
    const DecodedStep step = StepWith(drafts, 4);
    EXPECT_TRUE(step.plan->work[0].draft_token_ids.empty());
    EXPECT_EQ(step.proposals.malformed, 1);
  }
  EXPECT_EQ(StepWith({{}}, 4).proposals.malformed, 0);
}

TEST_F(SpeculativeDecoderTest, AsksForNoneWhileTheDraftIsAway) {
  const DraftLimit limit{1, 4};
  EXPECT_EQ(decoder_.ChooseDrafts({&limit, 1})[0], 4);
  proposer_.reason = "disconnected";
  EXPECT_EQ(decoder_.ChooseDrafts({&limit, 1})[0], 0);
  EXPECT_EQ(decoder_.disabled_reason(), "disconnected");
  proposer_.reason = "";
  EXPECT_EQ(decoder_.ChooseDrafts({&limit, 1})[0], 4);
}

TEST_F(SpeculativeDecoderTest, TheDeadlineIsHalfAMedianStepButAtLeastFiveMilliseconds) {
  EXPECT_EQ(decoder_.proposal_deadline(), absl::Milliseconds(5));
  model_.before_step = [this](const StepPlan&) {
    clock_.Advance(absl::Milliseconds(40));
    return absl::OkStatus();
  };
  for (int i = 0; i < 31; ++i) StepWith({{}}, 1);
  EXPECT_EQ(decoder_.proposal_deadline(), absl::Milliseconds(20));
  EXPECT_EQ(proposer_.budget, absl::Milliseconds(20));
}

TEST(NgramProposerTest, ProposesWhatFollowedTheNewestLongestMatch) {
  NgramProposer proposer;
  const std::vector<TokenId> tokens = {1, 2, 3, 9, 8, 2, 3, 4, 5, 6, 1, 2, 3};
  const ProposalRow row{1, tokens, 0, 3};
  // "1 2 3" at the start is longer than the newer "2 3".
  EXPECT_EQ(proposer.Propose({&row, 1}, absl::ZeroDuration())[0], (std::vector<TokenId>{9, 8, 2}));
  EXPECT_EQ(proposer.last_outcome().ok, 1);
}

TEST(NgramProposerTest, OverlapsAndEndsAtTheKnownTokens) {
  NgramProposer proposer;
  const std::vector<TokenId> tokens = {7, 7, 7};
  const ProposalRow row{1, tokens, 0, 5};
  EXPECT_EQ(proposer.Propose({&row, 1}, absl::ZeroDuration())[0], (std::vector<TokenId>{7}));
}

TEST(NgramProposerTest, HasNothingForNewText) {
  NgramProposer proposer;
  const std::vector<TokenId> tokens = {1, 2, 3, 4};
  const ProposalRow row{1, tokens, 0, 5};
  EXPECT_TRUE(proposer.Propose({&row, 1}, absl::ZeroDuration())[0].empty());
  EXPECT_EQ(proposer.last_outcome().empty, 1);
}

}  // namespace
}  // namespace krait
