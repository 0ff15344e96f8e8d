// A hybrid target with a hybrid draft, as whole clusters serve it: what the recurrent states of
// both have to survive.

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/draft_pair.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"
#include "tests/e2e/up_cluster.h"

namespace krait {
namespace {

v1::GenerateRequest Request(int index, int max_tokens) {
  const std::string prompt = absl::StrCat("request number ", index);
  return index % 2 == 0 ? GreedyRequest(prompt, max_tokens)
                        : SeededRequest(prompt, max_tokens, index);
}

class HybridDraftTest : public ::testing::TestWithParam<std::string> {};

TEST_P(HybridDraftTest, ChangesNoTokenAndDyingMidStreamNeither) {
  Cluster cluster(HybridTargetModel());
  AddDraftPair(cluster, HybridDraftModel(GetParam()), /*tensor_parallel_size=*/2);
  cluster.Start();
  ASSERT_TRUE(cluster.WaitFor(DraftConnected, absl::Seconds(10)));
  for (int i = 0; i < 4; ++i) {
    const v1::GenerateRequest request = Request(i, 80);
    const GenerateOutcome speculative = cluster.Generate(request);
    ExpectSame(cluster.Generate(WithoutSpeculation(request)), speculative);
    EXPECT_GT(speculative.usage.speculation().proposed(), 0);
  }
  const v1::GenerateRequest request = GreedyRequest("a long story", 900);
  const GenerateOutcome plain = cluster.Generate(WithoutSpeculation(request));
  size_t seen = 0;
  bool killed = false;
  ExpectSame(plain, cluster.Generate(request,
                                     [&](const v1::GenerateResponse& chunk, grpc::ClientContext&) {
                                       seen += chunk.token_ids_size();
                                       if (killed || seen < 50) return;
                                       killed = true;
                                       cluster.process("draft").Signal(SIGKILL);
                                       cluster.process("draft").Wait(absl::Seconds(5));
                                     }));
  ASSERT_TRUE(killed);
  cluster.StartWorker("draft");
  // What the target last said of its draft may be from before its death.
  GenerateOutcome healed;
  for (const absl::Time end = absl::Now() + absl::Seconds(30);
       healed.usage.speculation().proposed() == 0 && absl::Now() < end;) {
    healed = cluster.Generate(request);
    ExpectSame(plain, healed);
  }
  EXPECT_GT(healed.usage.speculation().proposed(), 0);
  if (GetParam() == "noisy") {
    EXPECT_GT(healed.usage.speculation().accepted(), 0);
  }
}

// The draft is the target: every run of four is accepted, and the stop string ends somewhere in
// one.
TEST(HybridClusterTest, AStopStringInsideAnAcceptedRunEndsWhatItEndsWithoutDrafts) {
  Cluster cluster(HybridTargetModel());
  AddDraftPair(cluster, HybridDraftModel("self"), /*tensor_parallel_size=*/2);
  cluster.Start();
  ASSERT_TRUE(cluster.WaitFor(DraftConnected, absl::Seconds(10)));
  v1::GenerateRequest request = GreedyRequest("stop somewhere", 40);
  const std::string text = cluster.Generate(WithoutSpeculation(request)).text;
  int stopped = 0;
  for (size_t begin = 4; begin + 3 <= text.size() && stopped < 12; ++begin) {
    const std::string stop = text.substr(begin, 3);
    // Beyond ASCII there are stand-ins for bytes that are no text: they match nothing.
    if (std::any_of(stop.begin(), stop.end(), [](char c) { return c < 0; })) continue;
    request.mutable_sampling()->clear_stop();
    request.mutable_sampling()->add_stop(stop);
    const GenerateOutcome plain = cluster.Generate(WithoutSpeculation(request));
    const GenerateOutcome speculative = cluster.Generate(request);
    ExpectSame(plain, speculative);
    EXPECT_EQ(speculative.finish_reason, v1::FINISH_REASON_STOP);
    EXPECT_EQ(speculative.text, text.substr(0, text.find(stop)));
    ++stopped;
  }
  EXPECT_GT(stopped, 5);
  const std::string metrics = HttpGet(cluster.admin_address("target"), "/metrics");
  EXPECT_GT(MetricValue(metrics, "krait_spec_decode_num_accepted_tokens_total"), 20);
}

INSTANTIATE_TEST_SUITE_P(Drafts, HybridDraftTest, ::testing::Values("noisy", "cut"),
                         [](const auto& info) { return info.param; });

// Sixteen clients at a time, a third of which leave at random; the draft dies and comes back.
TEST(HybridClusterTest, ConcurrentRequestsWithCancelsAndADyingDraftAreUndisturbed) {
  constexpr int kClients = 16, kKinds = 8, kRounds = 3, kTokens = 150;
  Cluster cluster(HybridTargetModel());
  AddDraftPair(cluster, HybridDraftModel("noisy"), /*tensor_parallel_size=*/2);
  cluster.Start();
  ASSERT_TRUE(cluster.WaitFor(DraftConnected, absl::Seconds(10)));
  std::vector<GenerateOutcome> undisturbed;
  for (int kind = 0; kind < kKinds; ++kind) {
    undisturbed.push_back(cluster.Generate(WithoutSpeculation(Request(kind, kTokens))));
    ASSERT_TRUE(undisturbed.back().status.ok()) << undisturbed.back().status.error_message();
  }
  std::atomic<int> finished{0}, cancelled{0};
  std::atomic<int64_t> accepted{0};
  const auto run_client = [&](int client) {
    std::mt19937 random(client);
    for (int round = 0; round < kRounds; ++round) {
      const int kind = static_cast<int>(random() % kKinds);
      const size_t leave = random() % 3 == 0 ? 1 + random() % 60 : kTokens + 1;
      size_t seen = 0;
      const GenerateOutcome outcome =
          cluster.Generate(Request(kind, kTokens),
                           [&](const v1::GenerateResponse& chunk, grpc::ClientContext& context) {
                             seen += chunk.token_ids_size();
                             if (seen >= leave) context.TryCancel();
                           });
      if (outcome.status.error_code() == grpc::CANCELLED) {
        ++cancelled;
      } else {
        ExpectSame(undisturbed[kind], outcome);
        accepted += outcome.usage.speculation().accepted();
        ++finished;
      }
    }
  };
  std::vector<std::thread> clients;
  for (int client = 0; client < kClients; ++client) clients.emplace_back(run_client, client);
  for (const int progress : {4, 12}) {  // the draft dies twice on the way
    while (finished + cancelled < progress) absl::SleepFor(absl::Milliseconds(5));
    cluster.process("draft").Signal(SIGKILL);
    cluster.process("draft").Wait(absl::Seconds(5));
    cluster.StartWorker("draft");
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(finished + cancelled, kClients * kRounds);
  EXPECT_GT(finished, kClients);
  EXPECT_GT(cancelled, 3);
  EXPECT_GT(accepted, 0);
  const std::string metrics = HttpGet(cluster.admin_address("target"), "/metrics");
  EXPECT_EQ(MetricValue(metrics, "krait_state_slots_used"), 0);
  EXPECT_EQ(MetricValue(metrics, "krait_kv_pages_used"), 0);
  EXPECT_GT(MetricValue(metrics, "krait_state_slots"), 0);
}

// As quickstart.sh runs it: two ranks, the draft cut out of the target, all under `krait up`.
TEST(HybridClusterTest, AKilledWorkerEndsItsStreamsComesBackAndServes) {
  UpCluster cluster(
      HybridTargetModel(),
      absl::StrCat(R"({"name": "target", "tensor_parallel_size": 2, )",
                   R"("kv_cache_mib": 64, "proposal_deadline_ms": 200}, )",
                   R"({"name": "draft", "role": "DRAFT", "kv_cache_mib": 64, )",
                   R"("model_name": "hybrid", "model_path": ")", HybridDraftModel("cut"), R"("})"));
  const v1::Worker before = cluster.AwaitReady("target", 0);
  ASSERT_TRUE(cluster.AwaitDraft(absl::Seconds(30)));
  const v1::GenerateRequest request = GreedyRequest("die", 900);
  const GenerateOutcome whole = cluster.Generate(request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  EXPECT_GT(whole.usage.speculation().proposed(), 0);
  bool killed = false;
  const GenerateOutcome cut =
      cluster.Generate(request, [&](const v1::GenerateResponse&, grpc::ClientContext&) {
        if (!killed) kill(static_cast<pid_t>(before.pid()), SIGKILL);
        killed = true;
      });
  EXPECT_EQ(cut.status.error_code(), grpc::UNAVAILABLE) << cut.status.error_message();
  ASSERT_LT(cut.token_ids.size(), whole.token_ids.size());
  EXPECT_TRUE(std::equal(cut.token_ids.begin(), cut.token_ids.end(), whole.token_ids.begin()));
  const v1::Worker after = cluster.AwaitReady("target", before.epoch());
  EXPECT_NE(after.pid(), before.pid());
  ExpectSame(whole, cluster.Generate(request));
  cluster.up().Signal(SIGTERM);
  EXPECT_EQ(cluster.up().Wait(absl::Seconds(30)), 0) << cluster.up().Log();
}

}  // namespace
}  // namespace krait
