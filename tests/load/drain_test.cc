// Drains and deaths under load: what can finish does, and what cannot has a prefix.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/e2e/models.h"
#include "tests/load/load_client.h"
#include "tests/load/scripted_cluster.h"

namespace krait {
namespace {

using ::testing::AnyOf;

constexpr int kMaxTokens = 100;
constexpr int kNumStreams = 120;

class DrainTest : public ::testing::Test {
 protected:
  DrainTest() : cluster_(TargetModel()) {
    for (const std::string name : {"a", "b"}) {
      AddScripted(cluster_, name, absl::Milliseconds(10), /*max_running=*/256, /*max_waiting=*/64);
    }
    cluster_.Start();
    client_ = std::make_unique<LoadClient>(cluster_.coordinator_config().listen(), 2);
  }

  void StartOne(const std::string& prompt, int max_tokens = kMaxTokens) {
    LoadPlan plan;
    plan.request = ScriptedRequest(prompt, max_tokens);
    plan.keep_ids = true;
    client_->Start(std::move(plan), [this, prompt](LoadResult result) {
      absl::MutexLock lock(&mutex_);
      results_[prompt].push_back(std::move(result));
    });
  }

  void StartAll() {
    for (int i = 0; i < kNumStreams; ++i) StartOne(absl::StrCat("stream ", i % 10));
  }

  // Until that many tokens have come in all: streams are in the middle.
  void WaitForTokens(int64_t count) {
    ASSERT_TRUE(WaitUntil([&] { return client_->num_tokens() >= count; }));
  }

  std::vector<LoadResult> Results() {
    absl::MutexLock lock(&mutex_);
    std::vector<LoadResult> all;
    for (const auto& [prompt, results] : results_) {
      all.insert(all.end(), results.begin(), results.end());
    }
    return all;
  }

  Cluster cluster_;
  absl::Mutex mutex_;
  std::map<std::string, std::vector<LoadResult>> results_;
  std::unique_ptr<LoadClient> client_;
};

TEST_F(DrainTest, SigtermToTheCoordinatorFailsNoRequestThatRuns) {
  StartAll();
  WaitForTokens(kNumStreams * 10);
  cluster_.coordinator().Signal(SIGTERM);
  ASSERT_TRUE(client_->WaitIdle(absl::Seconds(30)));
  const std::vector<LoadResult> results = Results();
  ASSERT_EQ(results.size(), static_cast<size_t>(kNumStreams));
  for (const LoadResult& result : results) {
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    EXPECT_EQ(result.num_tokens, kMaxTokens);
  }
  EXPECT_EQ(cluster_.coordinator().Wait(absl::Seconds(20)), 0);
}

TEST_F(DrainTest, SigtermToAWorkerFailsNoRequestAtAll) {
  StartAll();
  WaitForTokens(kNumStreams * 10);
  cluster_.process("a").Signal(SIGTERM);
  for (int i = 0; i < 50; ++i) StartOne(absl::StrCat("later ", i), 5);  // while it drains
  ASSERT_TRUE(client_->WaitIdle(absl::Seconds(30)));
  for (const LoadResult& result : Results()) {
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  }
  EXPECT_EQ(cluster_.process("a").Wait(absl::Seconds(20)), 0);
}

TEST_F(DrainTest, KilledWorkersStreamsArePrefixesAndTheOthersFinish) {
  StartAll();
  WaitForTokens(kNumStreams * 10);
  cluster_.process("a").Signal(SIGKILL);
  ASSERT_TRUE(client_->WaitIdle(absl::Seconds(30)));
  int broken = 0;
  for (const auto& [prompt, results] : results_) {
    // Some of each prompt ran on the worker that lives.
    const auto whole = std::find_if(results.begin(), results.end(),
                                    [](const LoadResult& result) { return result.status.ok(); });
    ASSERT_NE(whole, results.end()) << prompt;
    ASSERT_EQ(whole->num_tokens, kMaxTokens);
    for (const LoadResult& result : results) {
      EXPECT_THAT(result.status.error_code(), AnyOf(grpc::OK, grpc::UNAVAILABLE));
      broken += !result.status.ok();
      EXPECT_TRUE(
          std::equal(result.token_ids.begin(), result.token_ids.end(), whole->token_ids.begin()));
    }
  }
  EXPECT_GT(broken, 0);
  EXPECT_LT(broken, kNumStreams);
}

// The first step takes so long that nobody has a token when the worker dies.
TEST(DrainBeforeTheFirstTokenTest, KilledWorkersRequestsRunElsewhere) {
  Cluster cluster(TargetModel());
  cluster.coordinator_config().set_routing_policy("round_robin");
  AddScripted(cluster, "a", absl::Seconds(30), 256, 64);
  AddScripted(cluster, "b", absl::Milliseconds(1), 256, 64);
  cluster.Start();
  LoadClient client(cluster.coordinator_config().listen(), 2);
  std::atomic<int> ok = 0;
  std::atomic<int> failed = 0;
  for (int i = 0; i < kNumStreams; ++i) {
    LoadPlan plan;
    plan.request = ScriptedRequest("before", 5);
    client.Start(std::move(plan),
                 [&](const LoadResult& result) { ++(result.status.ok() ? ok : failed); });
  }
  // What went to b has ended; what went to a waits.
  ASSERT_TRUE(WaitUntil([&] { return ok >= kNumStreams / 2; }));
  EXPECT_GT(client.num_open(), 0);
  cluster.process("a").Signal(SIGKILL);
  ASSERT_TRUE(client.WaitIdle(absl::Seconds(30)));
  EXPECT_EQ(ok, kNumStreams);
  EXPECT_EQ(failed, 0);
}

}  // namespace
}  // namespace krait
