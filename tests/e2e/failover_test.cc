// Deaths and drains of real processes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"

namespace krait {
namespace {

using testing::HasSubstr;

// Runs `request` and sends `process` SIGTERM with the first chunk; a second one would ask it to
// exit at once.
GenerateOutcome GenerateAndSignal(Cluster& cluster, Process& process,
                                  const v1::GenerateRequest& request) {
  bool sent = false;
  return cluster.Generate(request, [&](const v1::GenerateResponse&, grpc::ClientContext&) {
    if (!sent) process.Signal(SIGTERM);
    sent = true;
  });
}

TEST(FailoverTest, WorkerDeathAfterTheFirstTokenIsUnavailableAndAPrefix) {
  Cluster cluster(TargetModel());
  cluster.AddTarget("target");
  cluster.Start();
  const GenerateOutcome whole = cluster.Generate(GreedyRequest("die", 1200));
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  const GenerateOutcome cut = cluster.Generate(
      GreedyRequest("die", 1200), [&](const v1::GenerateResponse&, grpc::ClientContext&) {
        cluster.process("target").Signal(SIGKILL);
      });
  EXPECT_EQ(cut.status.error_code(), grpc::UNAVAILABLE) << cut.status.error_message();
  ASSERT_LT(cut.token_ids.size(), whole.token_ids.size());
  EXPECT_TRUE(std::equal(cut.token_ids.begin(), cut.token_ids.end(), whole.token_ids.begin()));

  cluster.StartWorker("target");
  cluster.WaitReady();
  EXPECT_EQ(cluster.Generate(GreedyRequest("die", 1200)).token_ids, whole.token_ids);
}

TEST(FailoverTest, StoppedWorkerBeforeTheFirstTokenIsReplacedByAnother) {
  Cluster cluster(TargetModel());
  cluster.coordinator_config().set_routing_policy("round_robin");
  cluster.coordinator_config().set_lease_ms(1000);
  cluster.AddTarget("a");
  cluster.AddTarget("b");
  cluster.Start();
  const GenerateOutcome expected = cluster.Generate(GreedyRequest("retry", 20));
  cluster.process("a").Signal(SIGKILL);
  // Round robin sends at least one of these to the dead worker before its lease has run out.
  for (int i = 0; i < 4; ++i) {
    const GenerateOutcome outcome = cluster.Generate(GreedyRequest("retry", 20));
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
    EXPECT_EQ(outcome.token_ids, expected.token_ids);
  }
}

TEST(FailoverTest, SigtermToTheCoordinatorFinishesWhatRuns) {
  Cluster cluster(TargetModel());
  cluster.AddTarget("target");
  cluster.Start();
  const GenerateOutcome outcome =
      GenerateAndSignal(cluster, cluster.coordinator(), GreedyRequest("drain", 400));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.token_ids.size(), 400u);
  EXPECT_EQ(cluster.coordinator().Wait(absl::Seconds(20)), 0);
}

TEST(FailoverTest, SigtermToAWorkerFinishesWhatRuns) {
  Cluster cluster(TargetModel());
  cluster.AddTarget("target");
  cluster.Start();
  const GenerateOutcome outcome =
      GenerateAndSignal(cluster, cluster.process("target"), GreedyRequest("drain", 400));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.token_ids.size(), 400u);
  EXPECT_EQ(cluster.process("target").Wait(absl::Seconds(20)), 0);
}

TEST(FailoverTest, CoordinatorRestartFindsItsWorkersAgain) {
  Cluster cluster(TargetModel());
  cluster.AddTarget("target");
  cluster.Start();
  const GenerateOutcome before = cluster.Generate(GreedyRequest("again", 30));
  cluster.coordinator().Signal(SIGKILL);
  cluster.coordinator().Wait(absl::Seconds(5));
  cluster.StartCoordinator();
  cluster.WaitReady();
  EXPECT_EQ(cluster.Generate(GreedyRequest("again", 30)).token_ids, before.token_ids);
}

TEST(StartTest, BadModelFileIsExitCode65AndOneLine) {
  const std::string bad = ::testing::TempDir() + "/truncated.gguf";
  std::ofstream(bad, std::ios::binary) << "GGUF";
  for (const char* binary : {"krait-worker", "krait-coordinator"}) {
    const std::string log = ::testing::TempDir() + "/" + binary + "-bad.log";
    std::remove(log.c_str());
    Process process =
        Process::Start({BinaryPath(binary), "--model_path=" + bad, "--listen=127.0.0.1:0"}, log);
    EXPECT_EQ(process.Wait(absl::Seconds(30)), 65) << process.Log();
    EXPECT_THAT(process.Log(), HasSubstr("truncated.gguf"));
  }
}

TEST(StartTest, UnknownConfigurationFieldIsExitCode64AndNamed) {
  const std::string config = ::testing::TempDir() + "/unknown.json";
  std::ofstream(config) << R"({"listen": "127.0.0.1:0", "lisen": "x"})";
  for (const char* binary : {"krait-worker", "krait-coordinator"}) {
    const std::string log = ::testing::TempDir() + "/" + binary + "-unknown.log";
    std::remove(log.c_str());
    Process process = Process::Start({BinaryPath(binary), "--config", config}, log);
    EXPECT_EQ(process.Wait(absl::Seconds(30)), 64) << process.Log();
    EXPECT_THAT(process.Log(), HasSubstr("lisen"));
  }
}

}  // namespace
}  // namespace krait
