// Deaths and stops of one process of a tensor-parallel group.

#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"
#include "tests/e2e/up_cluster.h"

namespace krait {
namespace {

constexpr int kProcesses = 3;
constexpr int kTokens = 600;
constexpr absl::Duration kFence = absl::Seconds(5);

std::string Name(int process) { return process == 0 ? "target" : absl::StrCat("target.", process); }

uint64_t Epoch(Cluster& cluster) {
  const v1::ListWorkersResponse workers = cluster.ListWorkers();
  return workers.workers_size() == 1 ? workers.workers(0).epoch() : 0;
}

// Sends `signal` to `victim` with the first chunk of a stream; what the stream delivered.
GenerateOutcome GenerateAndHarm(Cluster& cluster, int victim, int signal) {
  bool sent = false;
  return cluster.Generate(GreedyRequest("fence", kTokens),
                          [&](const v1::GenerateResponse&, grpc::ClientContext&) {
                            if (!sent) cluster.process(Name(victim)).Signal(signal);
                            sent = true;
                          });
}

// Every process but a stopped or killed one ends by itself with code 70, in time; a stopped one,
// once it goes on, finds itself fenced.
void ExpectFenced(Cluster& cluster, int victim, int signal, absl::Time harmed) {
  for (int p = 0; p < kProcesses; ++p) {
    if (p == victim) continue;
    EXPECT_EQ(cluster.process(Name(p)).Wait(harmed + kFence - absl::Now()), 70)
        << Name(p) << ": " << cluster.process(Name(p)).Log();
  }
  Process& process = cluster.process(Name(victim));
  process.Signal(SIGCONT);
  EXPECT_EQ(process.Wait(kFence), signal == SIGSTOP ? 70 : 128 + SIGKILL) << process.Log();
}

class ProcessGroupTest : public ::testing::TestWithParam<int> {};

TEST_P(ProcessGroupTest, LossOfAnyProcessFencesTheGroupAndNoTokenIsWrong) {
  const int signal = GetParam();
  Cluster cluster(TargetModel());
  cluster.AddGroup("target", kProcesses, kProcesses);
  cluster.Start();
  const GenerateOutcome whole = cluster.Generate(GreedyRequest("fence", kTokens));
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  for (int victim = 0; victim < kProcesses; ++victim) {
    SCOPED_TRACE(Name(victim));
    const uint64_t epoch = Epoch(cluster);
    const absl::Time harmed = absl::Now();
    const GenerateOutcome cut = GenerateAndHarm(cluster, victim, signal);
    EXPECT_EQ(cut.status.error_code(), grpc::UNAVAILABLE) << cut.status.error_message();
    ASSERT_LT(cut.token_ids.size(), whole.token_ids.size());
    EXPECT_TRUE(std::equal(cut.token_ids.begin(), cut.token_ids.end(), whole.token_ids.begin()));
    ExpectFenced(cluster, victim, signal, harmed);

    cluster.StartWorker("target");
    ASSERT_TRUE(cluster.WaitFor(
        [&](const v1::ListWorkersResponse& workers) {
          return workers.workers_size() == 1 && workers.workers(0).epoch() > epoch &&
                 workers.workers(0).state() == v1::WORKER_STATE_READY;
        },
        absl::Seconds(30)));
    EXPECT_EQ(cluster.Generate(GreedyRequest("fence", kTokens)).token_ids, whole.token_ids);
  }
}

INSTANTIATE_TEST_SUITE_P(Signals, ProcessGroupTest, ::testing::Values(SIGKILL, SIGSTOP),
                         [](const auto& info) {
                           return info.param == SIGKILL ? "Killed" : "Stopped";
                         });

TEST(ProcessGroupIdleTest, RanksAreListedWithTheirProcessesAndAnIdleGroupIsFencedToo) {
  Cluster cluster(TargetModel());
  cluster.AddGroup("target", 3, 2);
  cluster.Start();
  const v1::ListWorkersResponse workers = cluster.ListWorkers();
  ASSERT_EQ(workers.workers(0).ranks_size(), 3);
  EXPECT_EQ(workers.workers(0).ranks(0).pid(), cluster.process("target").pid());
  for (int rank : {1, 2}) {
    EXPECT_EQ(workers.workers(0).ranks(rank).rank(), rank);
    EXPECT_EQ(workers.workers(0).ranks(rank).pid(), cluster.process("target.1").pid());
    EXPECT_FALSE(workers.workers(0).ranks(rank).host().empty());
  }
  cluster.process("target.1").Signal(SIGKILL);
  EXPECT_EQ(cluster.process("target").Wait(kFence), 70);
}

TEST(ProcessGroupIdleTest, SigtermToAllDrainsAndAllEndInPeace) {
  Cluster cluster(TargetModel());
  cluster.AddGroup("target", 2, 2);
  cluster.Start();
  bool sent = false;
  const GenerateOutcome outcome = cluster.Generate(
      GreedyRequest("drain", kTokens), [&](const v1::GenerateResponse&, grpc::ClientContext&) {
        for (int p = 0; p < 2 && !sent; ++p) cluster.process(Name(p)).Signal(SIGTERM);
        sent = true;
      });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.token_ids.size(), static_cast<size_t>(kTokens));
  for (int p = 0; p < 2; ++p) EXPECT_EQ(cluster.process(Name(p)).Wait(absl::Seconds(20)), 0);
}

TEST(ProcessGroupUpTest, AStoppedProcessHasTheWholeGroupStartedAgain) {
  UpCluster cluster(TargetModel(), R"({"name": "target", "kv_cache_mib": 64, )"
                                   R"("tensor_parallel_size": 3, "processes": 3})");
  const v1::Worker before = cluster.AwaitReady("target", 0);
  ASSERT_EQ(before.ranks_size(), 3);
  kill(static_cast<pid_t>(before.ranks(1).pid()), SIGSTOP);
  const v1::Worker after = cluster.AwaitReady("target", before.epoch());
  ASSERT_EQ(after.ranks_size(), 3);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_NE(after.ranks(rank).pid(), before.ranks(rank).pid());
  }
  const grpc::Status status = cluster.Generate(GreedyRequest("up", 5)).status;
  EXPECT_TRUE(status.ok()) << status.error_message();
  cluster.up().Signal(SIGTERM);
  EXPECT_EQ(cluster.up().Wait(absl::Seconds(30)), 0) << cluster.up().Log();
}

}  // namespace
}  // namespace krait
