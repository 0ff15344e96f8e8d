#include "worker/speculative/lookahead_policy.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "gtest/gtest.h"
#include "worker/speculative/linear_cost.h"
#include "worker/speculative/pass_cost.h"

namespace krait {
namespace {

TEST(LinearCostTest, FindsBaseAndSlope) {
  LinearCost cost(0.07);
  for (int i = 0; i < 200; ++i) cost.Add(1 + i % 6, 0.010 + 0.001 * (1 + i % 6));
  EXPECT_NEAR(cost.Seconds(1), 0.011, 5e-4);
  EXPECT_NEAR(cost.Seconds(6), 0.016, 5e-4);
}

TEST(LinearCostTest, WithoutVariationTheSlopeIsThePriorShare) {
  LinearCost cost(1.0);
  for (int i = 0; i < 10; ++i) cost.Add(2, 0.004);
  EXPECT_NEAR(cost.Seconds(4), 0.008, 1e-6);
}

TEST(LinearCostTest, AnOutlierCountsThreefoldAtMost) {
  LinearCost cost(0.0);
  for (int i = 0; i < 20; ++i) cost.Add(1, 0.010);
  cost.Add(1, 10.0);
  EXPECT_LT(cost.Seconds(1), 0.013);
}

TEST(PassCostTest, ASizeThatWasSeenHasItsOwnCostAndTheOthersLieOnTheLine) {
  PassCost cost;
  EXPECT_EQ(cost.Seconds(3), 0);
  const double of_rows[] = {0, 0.0100, 0.0105, 0.0106, 0.0123};
  for (int i = 0; i < 200; ++i) cost.Add(1 + i % 4, of_rows[1 + i % 4]);
  for (int rows = 1; rows <= 4; ++rows) EXPECT_NEAR(cost.Seconds(rows), of_rows[rows], 2e-4);
  EXPECT_NEAR(cost.Seconds(2.5), (cost.Seconds(2) + cost.Seconds(3)) / 2, 1e-9);
  EXPECT_GT(cost.Seconds(8), 0.0123);
}

TEST(PassCostTest, WhatWasSeenLongAgoIsOnTheLineAgain) {
  PassCost cost;
  for (int i = 0; i < 20; ++i) cost.Add(1, 0.010);
  cost.Add(3, 0.025);  // the machine was busy
  const double then = cost.Seconds(3);
  for (int i = 0; i < 300; ++i) cost.Add(1, 0.010);
  EXPECT_LT(cost.Seconds(3), then);
  EXPECT_NEAR(cost.Seconds(3), 0.0115, 1e-3);
}

// A machine with known costs and a draft of known quality.
struct World {
  double row = 0.08;      // of a pass of one row, each further row
  double draft_cost = 0;  // of a pass, each draft
  double acceptance = 1;
  double coverage = 1;
};

struct Tally {
  double tokens = 0, seconds = 0;
  std::vector<int> drafts;
};

Tally Simulate(LookaheadPolicy& policy, const World& world, int rounds, int max_drafts,
               uint32_t seed, SequenceId id = 1) {
  constexpr double kPass = 0.010;
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  Tally tally;
  for (int round = 0; round < rounds; ++round) {
    const DraftLimit limit{id, max_drafts};
    const int asked = policy.Choose({&limit, 1})[0];
    EXPECT_LE(asked, max_drafts);
    DraftOutcome outcome{.id = id, .asked = asked};
    if (asked > 0 && uniform(random) < world.coverage) outcome.proposed = asked;
    while (outcome.accepted < outcome.proposed && uniform(random) < world.acceptance) {
      ++outcome.accepted;
    }
    const double pass = kPass * (1 + world.row * outcome.proposed);
    const double wait = kPass * world.draft_cost * asked;
    policy.OnRound({.outcomes = {&outcome, asked > 0 ? 1u : 0u},
                    .num_tokens = 1 + outcome.proposed,
                    .pass = absl::Seconds(pass),
                    .draft_wait = absl::Seconds(wait)});
    tally.tokens += 1 + outcome.accepted;
    tally.seconds += pass + wait;
    tally.drafts.push_back(asked);
  }
  tally.tokens /= tally.seconds / kPass;  // relative to K = 0
  return tally;
}

TEST(LookaheadPolicyTest, AFreePerfectDraftReachesTheMaximumWithin20Rounds) {
  LookaheadPolicy policy;
  const Tally tally = Simulate(policy, {.acceptance = 1}, 60, 8, 1);
  for (size_t i = 20; i < tally.drafts.size(); ++i) EXPECT_EQ(tally.drafts[i], 8) << i;
}

TEST(LookaheadPolicyTest, AWrongDraftIsOffWithin20RoundsAndProbedRarely) {
  for (const double row : {0.02, 0.08, 0.3}) {
    LookaheadPolicy policy;
    const Tally tally = Simulate(policy, {.row = row, .acceptance = 0}, 2000, 8, 2);
    EXPECT_LE(
        std::count_if(tally.drafts.begin() + 20, tally.drafts.end(), [](int k) { return k > 1; }),
        0);
    const auto probes = std::count(tally.drafts.begin() + 20, tally.drafts.end(), 1);
    EXPECT_GE(probes, 2) << "it must notice when drafts become good";
    EXPECT_GE(tally.tokens, 0.97) << "row=" << row << " probes=" << probes;
  }
}

TEST(LookaheadPolicyTest, SpeculationNeverCostsMoreThanThreePercent) {
  for (const World& world :
       {World{.draft_cost = 0.5, .acceptance = 0.3}, World{.draft_cost = 0.3, .acceptance = 0.0},
        World{.draft_cost = 1.0, .acceptance = 1.0},
        World{.row = 0.3, .draft_cost = 0.1, .acceptance = 0.2},
        World{.draft_cost = 0.2, .acceptance = 0.8, .coverage = 0.1}}) {
    for (uint32_t seed = 0; seed < 5; ++seed) {
      LookaheadPolicy policy;
      const Tally tally = Simulate(policy, world, 1500, 8, seed);
      EXPECT_GE(tally.tokens, 0.97)
          << "draft_cost=" << world.draft_cost << " acceptance=" << world.acceptance;
    }
  }
}

// Against the best constant K, found by trying all.
TEST(LookaheadPolicyTest, ComesCloseToTheBestConstantK) {
  for (const World& world :
       {World{.draft_cost = 0.08, .acceptance = 0.6}, World{.draft_cost = 0.08, .acceptance = 0.9},
        World{.draft_cost = 0.0, .acceptance = 0.5},
        World{.draft_cost = 0.25, .acceptance = 0.7}}) {
    double best = 1;
    for (int k = 1; k <= 8; ++k) {
      double tokens = 1;
      for (int i = 1; i <= k; ++i) tokens += std::pow(world.acceptance, i);
      best = std::max(best, tokens / (1 + k * (world.row + world.draft_cost)));
    }
    LookaheadPolicy policy;
    const Tally tally = Simulate(policy, world, 3000, 8, 3);
    EXPECT_GE(tally.tokens, 0.93 * best) << "acceptance=" << world.acceptance;
  }
}

// Where others' drafts are good, a text whose first drafts happen to fail keeps its drafts.
TEST(LookaheadPolicyTest, OthersDraftsWeighAgainstABadBeginning) {
  LookaheadPolicy policy;
  Simulate(policy, {.draft_cost = 0.08, .acceptance = 0.6}, 300, 8, 7);
  Simulate(policy, {.draft_cost = 0.08, .acceptance = 0}, 4, 8, 8, /*id=*/2);
  const DraftLimit limit{2, 8};
  EXPECT_GT(policy.Choose({&limit, 1})[0], 0);
}

// Rows come in tiles of four. On a line over all sizes K = 8 would look best, and is not.
TEST(LookaheadPolicyTest, StaysWithinTheTileWhoseRowsAreCheap) {
  LookaheadPolicy policy;
  std::mt19937 random(9);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int round = 0; round < 400; ++round) {
    const int asked = 1 + round % 8;
    DraftOutcome outcome{.id = 1, .asked = asked, .proposed = asked};
    while (outcome.accepted < asked && uniform(random) < 0.9) ++outcome.accepted;
    policy.OnRound({.outcomes = {&outcome, 1},
                    .num_tokens = 1 + asked,
                    .pass = absl::Milliseconds(10) * ((asked < 4 ? 1 : 2) + 0.02 * asked),
                    .draft_wait = absl::Microseconds(200) * asked});
  }
  const DraftLimit limit{1, 8};
  EXPECT_EQ(policy.Choose({&limit, 1})[0], 3);
}

TEST(LookaheadPolicyTest, ADraftThatBecomesGoodIsUsedAgain) {
  LookaheadPolicy policy;
  Simulate(policy, {.acceptance = 0}, 300, 4, 4);
  const Tally tally = Simulate(policy, {.acceptance = 1}, 600, 4, 5);
  EXPECT_EQ(tally.drafts.back(), 4);
}

TEST(LookaheadPolicyTest, ProbesInVainBecomeRarerAndNeverStop) {
  LookaheadPolicy policy;
  // A row costs what the policy assumes before it knows, so that every probe costs the same.
  const Tally tally = Simulate(policy, {.row = 0.07, .acceptance = 0}, 3000, 8, 6);
  const auto off = std::find(tally.drafts.begin(), tally.drafts.end(), 0);
  std::vector<int64_t> probes;  // rounds since drafts were off
  for (auto it = off; it != tally.drafts.end(); ++it) {
    if (*it > 0) probes.push_back(it - off);
  }
  ASSERT_GE(probes.size(), 100u);
  EXPECT_LE(probes[0], 12);
  EXPECT_GE(probes[99] - probes[98], 16);
  EXPECT_LE(probes[99] - probes[98], 24);
}

// Another's drafts must not put off the probe of a sequence that has none.
TEST(LookaheadPolicyTest, ASequenceWithoutDraftsIsProbedBesideOneWithDrafts) {
  LookaheadPolicy policy;
  const DraftLimit limits[] = {{1, 4}, {2, 4}};
  int late_probes = 0;
  for (int round = 0; round < 400; ++round) {
    const std::vector<int> chosen = policy.Choose(limits);
    if (round >= 100 && chosen[1] > 0) ++late_probes;
    std::vector<DraftOutcome> outcomes;
    for (int i = 0; i < 2; ++i) {
      if (chosen[i] > 0) outcomes.push_back({i + 1, chosen[i], chosen[i], i == 0 ? chosen[i] : 0});
    }
    const int tokens = 2 + chosen[0] + chosen[1];
    policy.OnRound({.outcomes = outcomes,
                    .num_tokens = tokens,
                    .pass = absl::Milliseconds(10) * (1 + 0.1 * tokens)});
  }
  EXPECT_GE(late_probes, 2);
  EXPECT_LE(late_probes, 30);
}

TEST(LookaheadPolicyTest, LearnsPerSequence) {
  LookaheadPolicy policy;
  const DraftLimit limits[] = {{1, 4}, {2, 4}};
  std::vector<int> chosen;
  for (int round = 0; round < 40; ++round) {
    chosen = policy.Choose(limits);
    std::vector<DraftOutcome> outcomes;
    int tokens = 2;
    for (int i = 0; i < 2; ++i) {
      tokens += chosen[i];
      if (chosen[i] > 0) outcomes.push_back({i + 1, chosen[i], chosen[i], i == 0 ? chosen[i] : 0});
    }
    policy.OnRound({.outcomes = outcomes,
                    .num_tokens = tokens,
                    .pass = absl::Milliseconds(10) * (1 + 0.1 * tokens)});
  }
  EXPECT_EQ(chosen[0], 4);
  EXPECT_LE(chosen[1], 1);
}

TEST(LookaheadPolicyTest, RespectsEachLimit) {
  LookaheadPolicy policy;
  const DraftLimit limits[] = {{1, 0}, {2, 1}, {3, 8}};
  for (int round = 0; round < 10; ++round) {
    const std::vector<int> chosen = policy.Choose(limits);
    EXPECT_EQ(chosen[0], 0);
    EXPECT_LE(chosen[1], 1);
    EXPECT_LE(chosen[2], 8);
  }
}

}  // namespace
}  // namespace krait
