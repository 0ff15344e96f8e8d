#include "worker/sampling/stop_checker.h"

#include "gtest/gtest.h"

namespace krait {
namespace {

const StopParams kParams{.max_tokens = 5, .stop_token_ids = {40}, .eos_ids = {2, 7}};

TEST(StopCheckerTest, CutsWhatFollowsAStopOrEndOfSequence) {
  const StopChecker checker(kParams);
  for (TokenId stop : {2, 7, 40}) {
    const StopDecision decision = checker.Check(0, {10, stop, 11});
    EXPECT_EQ(decision.cause, StopCause::kStopToken);
    EXPECT_EQ(decision.num_tokens, 2);
  }
}

TEST(StopCheckerTest, EndIdsAreAllOfThemOnceInOrder) {
  EXPECT_EQ(EndIds({.stop_token_ids = {40, 2, 40}, .eos_ids = {7, 2}}),
            (std::vector<TokenId>{2, 7, 40}));
}

TEST(StopCheckerTest, CutsAtMaxTokens) {
  const StopDecision decision = StopChecker(kParams).Check(3, {10, 11, 12});
  EXPECT_EQ(decision.cause, StopCause::kMaxTokens);
  EXPECT_EQ(decision.num_tokens, 2);
}

TEST(StopCheckerTest, AStopTokenInTheLastPlaceIsAStop) {
  EXPECT_EQ(StopChecker(kParams).Check(4, {2}).cause, StopCause::kStopToken);
}

TEST(StopCheckerTest, GoesOnOtherwise) {
  const StopDecision decision = StopChecker(kParams).Check(0, {10, 11});
  EXPECT_EQ(decision.cause, StopCause::kNone);
  EXPECT_EQ(decision.num_tokens, 2);
}

}  // namespace
}  // namespace krait
