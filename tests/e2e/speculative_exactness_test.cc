// A draft worker in its own process: it changes how many tokens come a step, never which.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/draft_pair.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"

namespace krait {
namespace {

// Also that the plain one was plain.
void ExpectSameAsPlain(const GenerateOutcome& plain, const GenerateOutcome& speculative) {
  ExpectSame(plain, speculative);
  EXPECT_EQ(plain.usage.speculation().proposed(), 0);
}

class RemoteDraftTest : public testing::TestWithParam<std::string> {};

TEST_P(RemoteDraftTest, ChangesNoToken) {
  Cluster cluster(TargetModel());
  AddDraftPair(cluster, DraftModel(GetParam()));
  cluster.Start();
  ASSERT_TRUE(cluster.WaitFor(DraftConnected, absl::Seconds(10)));
  int64_t proposed = 0, accepted = 0;
  for (int i = 0; i < 6; ++i) {
    const std::string prompt = absl::StrCat("request number ", i);
    const v1::GenerateRequest request =
        i % 2 == 0 ? GreedyRequest(prompt, 60 + i) : SeededRequest(prompt, 60 + i, i);
    const GenerateOutcome speculative = cluster.Generate(request);
    ExpectSameAsPlain(cluster.Generate(WithoutSpeculation(request)), speculative);
    proposed += speculative.usage.speculation().proposed();
    accepted += speculative.usage.speculation().accepted();
    EXPECT_GT(speculative.usage.speculation().rounds(), 0);
  }
  EXPECT_GT(proposed, 0);
  if (GetParam() == "self") {
    EXPECT_GT(accepted, proposed * 9 / 10);
  }
  if (GetParam() == "noisy") {
    EXPECT_GT(accepted, 0);
  }
}

// A choice is what it is with any number of others, with and without a draft.
TEST_P(RemoteDraftTest, ChangesNoTokenOfAnyChoice) {
  Cluster cluster(TargetModel());
  AddDraftPair(cluster, DraftModel(GetParam()));
  cluster.Start();
  ASSERT_TRUE(cluster.WaitFor(DraftConnected, absl::Seconds(10)));
  v1::GenerateRequest request = SeededRequest("a choice", 60, 5);
  request.mutable_sampling()->set_n(4);
  const GenerateOutcome plain = cluster.Generate(WithoutSpeculation(request));
  const GenerateOutcome speculative = cluster.Generate(request);
  ExpectSameAsPlain(plain, speculative);
  EXPECT_EQ(plain.choices, speculative.choices);
  EXPECT_TRUE(speculative.contiguous);
  ASSERT_EQ(plain.choices.size(), 4u);
  std::set<std::vector<int>> distinct;
  for (const auto& [index, token_ids] : plain.choices) distinct.insert(token_ids);
  EXPECT_EQ(distinct.size(), 4u);
  EXPECT_EQ(plain.total_usage.completion_tokens(), 240);
  EXPECT_EQ(plain.total_usage.prompt_tokens(), plain.usage.prompt_tokens());
  const v1::SpeculationUsage& usage = speculative.total_usage.speculation();
  EXPECT_GT(usage.proposed(), 0);
  if (GetParam() == "self") {
    EXPECT_GT(usage.accepted(), usage.proposed() * 9 / 10);
  }
  for (int n = 1; n <= 3; ++n) {
    request.mutable_sampling()->set_n(n);
    const GenerateOutcome fewer = cluster.Generate(request);
    ASSERT_EQ(fewer.choices.size(), static_cast<size_t>(n));
    for (const auto& [index, token_ids] : fewer.choices) {
      EXPECT_EQ(token_ids, plain.choices.at(index)) << index << " of " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Drafts, RemoteDraftTest, testing::Values("self", "noisy", "cut"),
                         [](const auto& info) { return info.param; });

TEST(DraftDeathTest, KillingTheDraftMidStreamChangesNoTokenAndItComesBack) {
  Cluster cluster(TargetModel());
  AddDraftPair(cluster, DraftModel("self"));
  cluster.Start();
  ASSERT_TRUE(cluster.WaitFor(DraftConnected, absl::Seconds(10)));
  const v1::GenerateRequest request = GreedyRequest("a long story", 1600);
  const GenerateOutcome plain = cluster.Generate(WithoutSpeculation(request));
  size_t seen = 0;
  bool killed = false;
  const GenerateOutcome disturbed =
      cluster.Generate(request, [&](const v1::GenerateResponse& chunk, grpc::ClientContext&) {
        seen += chunk.token_ids_size();
        if (killed || seen < 50) return;
        killed = true;
        cluster.process("draft").Signal(SIGKILL);
        cluster.process("draft").Wait(absl::Seconds(5));
      });
  ASSERT_TRUE(killed);
  ExpectSameAsPlain(plain, disturbed);

  cluster.StartWorker("draft");
  ASSERT_TRUE(cluster.WaitFor(DraftConnected, absl::Seconds(10)));
  const GenerateOutcome healed = cluster.Generate(request);
  ExpectSameAsPlain(plain, healed);
  EXPECT_GT(healed.usage.speculation().accepted(), 0);
}

TEST(DraftDeathTest, RandomKillsAndRestartsChangeNoToken) {
  Cluster cluster(TargetModel());
  AddDraftPair(cluster, DraftModel("noisy"));
  cluster.Start();
  std::mt19937 random(5);
  for (int round = 0; round < 4; ++round) {
    const v1::GenerateRequest request =
        round % 2 == 0 ? GreedyRequest(absl::StrCat("story ", round), 700)
                       : SeededRequest(absl::StrCat("story ", round), 700, round);
    const GenerateOutcome plain = cluster.Generate(WithoutSpeculation(request));
    size_t seen = 0, next = 30 + random() % 60;
    bool up = true;
    const GenerateOutcome disturbed =
        cluster.Generate(request, [&](const v1::GenerateResponse& chunk, grpc::ClientContext&) {
          seen += chunk.token_ids_size();
          if (seen < next) return;
          next = seen + 60 + random() % 150;
          if (up) {
            cluster.process("draft").Signal(SIGKILL);
            cluster.process("draft").Wait(absl::Seconds(5));
          } else {
            cluster.StartWorker("draft");
          }
          up = !up;
        });
    ExpectSameAsPlain(plain, disturbed);
    if (!up) cluster.StartWorker("draft");
  }
}

TEST(DraftMismatchTest, AnotherTokenizerTurnsSpeculationOffAndSaysSo) {
  Cluster cluster(TargetModel());
  AddDraftPair(cluster, DraftModel("other_tokenizer"));
  cluster.StartCoordinator();
  cluster.StartWorker("draft");
  cluster.StartWorker("target");
  ASSERT_TRUE(cluster.WaitFor(
      [](const v1::ListWorkersResponse& workers) {
        for (const auto& worker : workers.workers()) {
          if (worker.role() == v1::WORKER_ROLE_TARGET && worker.state() == v1::WORKER_STATE_READY) {
            return true;
          }
        }
        return false;
      },
      absl::Seconds(60)));
  // The first generation may be over before the draft has said who it is; steps report the reason.
  double times_off = 0;
  const absl::Time end = absl::Now() + absl::Seconds(30);
  for (int i = 0; times_off == 0 && absl::Now() < end; ++i) {
    const GenerateOutcome outcome =
        cluster.Generate(GreedyRequest(absl::StrCat("mismatch-", i), 40));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
    EXPECT_EQ(outcome.token_ids.size(), 40u);
    EXPECT_EQ(outcome.usage.speculation().proposed(), 0);
    times_off = MetricValue(HttpGet(cluster.admin_address("target"), "/metrics"),
                            "krait_spec_disabled_total", "tokenizer_mismatch");
  }
  EXPECT_EQ(times_off, 1);
}

}  // namespace
}  // namespace krait
