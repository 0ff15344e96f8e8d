// Thousands of requests, many of them cancelled in whatever state they are, leave nothing behind:
// slots, gauges, descriptors, threads, memory. And the test would see it if they did.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "tests/e2e/models.h"
#include "tests/load/load_client.h"
#include "tests/load/scripted_cluster.h"

namespace krait {
namespace {

// A small part of the failpoint's 1,024.
constexpr double kMaxHeapBytesPerRequest = 200;
// gRPC's pools keep a few threads more or less at any time.
constexpr int kThreadsOfGrpc = 4;
constexpr int kConcurrency = 96;  // beyond what runs: requests also wait, and are refused
constexpr int kMaxTokens = 12;

int NumRequests() {
  int number = 3000;
  const char* value = getenv("KRAIT_LOAD_REQUESTS");
  if (value != nullptr && !absl::SimpleAtoi(value, &number)) ADD_FAILURE() << value;
  return number;
}

class LeakTest : public ::testing::Test {
 protected:
  LeakTest() : cluster_(TargetModel()) {
    cluster_.coordinator_config().set_max_requests(90);
    for (const std::string name : {"a", "b"}) {
      AddScripted(cluster_, name, absl::Milliseconds(1), /*max_running=*/24, /*max_waiting=*/16);
    }
  }

  // Cancelled at the start, after some chunk, by a short deadline, or not at all.
  LoadPlan RandomPlan() {
    LoadPlan plan;
    plan.request = ScriptedRequest(absl::StrCat("request ", random_() % 7), kMaxTokens);
    switch (random_() % 5) {
      case 0:
        plan.cancel_at_chunk = 0;
        break;
      case 1:
        plan.cancel_at_chunk = 1 + random_() % kMaxTokens;
        break;
      case 2:
        plan.deadline = absl::Milliseconds(1 + random_() % 30);
        break;
      default:
        break;
    }
    return plan;
  }

  // Runs `count` requests, always kConcurrency at once.
  void Run(int count) {
    LoadClient client(cluster_.coordinator_config().listen(), 4);
    std::atomic<int> left = count;
    std::function<void()> start_next = [&] {
      if (left.fetch_sub(1) <= 0) return;
      absl::ReleasableMutexLock lock(&mutex_);
      LoadPlan plan = RandomPlan();
      lock.Release();
      client.Start(std::move(plan), [&](LoadResult result) {
        Record(result);
        start_next();
      });
    };
    for (int i = 0; i < kConcurrency; ++i) start_next();
    ASSERT_TRUE(client.WaitIdle(absl::Minutes(10)));
  }

  void Record(const LoadResult& result) {
    absl::MutexLock lock(&mutex_);
    ++codes_[result.status.error_code()];
    if (!result.in_order) ADD_FAILURE() << "tokens out of order";
    if (result.status.ok() && result.num_tokens != kMaxTokens) ADD_FAILURE() << "tokens lost";
  }

  void ExpectIdle() {
    EXPECT_TRUE(WaitUntil([&] { return GaugesAreZero("coordinator"); }));
    EXPECT_TRUE(WaitUntil([&] { return GaugesAreZero("a") && GaugesAreZero("b"); }));
  }

  bool GaugesAreZero(const std::string& name) {
    const std::string metrics = HttpGet(cluster_.admin_address(name), "/metrics");
    for (const char* gauge :
         {"krait_num_requests_running", "krait_num_requests_waiting", "krait_tokens_in_flight"}) {
      if (MetricValue(metrics, gauge) != 0) return false;
    }
    return !metrics.empty();
  }

  ProcessUse Use() { return ReadProcessUse(cluster_.admin_address("coordinator")); }

  // Warms up, runs, and returns by how many bytes of heap the coordinator grew for each request.
  double MeasureGrowth(int count) {
    Run(1000);
    ExpectIdle();
    const ProcessUse before = Use();
    Run(count);
    ExpectIdle();
    // Connections of the generator end a moment after it has gone.
    EXPECT_TRUE(WaitUntil([&] {
      const ProcessUse now = Use();
      return now.fds <= before.fds && now.threads <= before.threads + kThreadsOfGrpc;
    })) << before.fds
        << " descriptors and " << before.threads << " threads before, " << Use().fds << " and "
        << Use().threads << " after";
    const double growth = (Use().heap_bytes - before.heap_bytes) / count;
    RecordProperty("heap_bytes_per_request", std::to_string(growth));
    return growth;
  }

  Cluster cluster_;
  absl::Mutex mutex_;
  std::mt19937 random_{7};
  std::map<grpc::StatusCode, int> codes_;
};

TEST_F(LeakTest, RequestsAndCancelsInEveryStateLeaveNothing) {
  cluster_.Start();
  EXPECT_LT(MeasureGrowth(NumRequests()), kMaxHeapBytesPerRequest);
  // All of these have been there, or the test has tested less than it says.
  for (const auto code :
       {grpc::OK, grpc::CANCELLED, grpc::DEADLINE_EXCEEDED, grpc::RESOURCE_EXHAUSTED}) {
    EXPECT_GT(codes_[code], 0) << code;
  }
}

TEST_F(LeakTest, LeakOnPurposeIsCaught) {
  ASSERT_EQ(setenv("KRAIT_FAILPOINTS", "coordinator.leak", 1), 0);
  cluster_.Start();
  unsetenv("KRAIT_FAILPOINTS");
  if (kInvariantsEnabled) {
    EXPECT_GT(MeasureGrowth(NumRequests() / 2), kMaxHeapBytesPerRequest);
  } else {
    EXPECT_LT(MeasureGrowth(NumRequests() / 2), kMaxHeapBytesPerRequest);  // no failpoints there
  }
}

}  // namespace
}  // namespace krait
