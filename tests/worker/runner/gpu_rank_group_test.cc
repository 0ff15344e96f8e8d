// Groups of ranks on GPUs, which here are the CPU under their name, and NCCL a fake: who gets which
// device and communicator, how they meet, and what follows when they do not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <thread>

#include "tests/support/fake_nccl.h"
#include "tests/support/gpu_stand_in.h"
#include "tests/support/random_tokens.h"
#include "tests/support/runner_bench.h"
#include "tests/support/tiny_checkpoint.h"
#include "worker/comm/frame_socket.h"
#include "worker/runner/rank_group.h"

namespace krait::testing {
namespace {

constexpr int kPrompt = 10;

class GpuRankGroupTest : public ::testing::Test {
 protected:
  GpuRankGroupTest() {
    signal(SIGPIPE, SIG_IGN);  // as the processes do
    EXPECT_TRUE(WriteTinyFolder(MakeTinyModel({.num_layers = 2, .seed = 41}), folder_).ok());
  }

  RankGroupOptions Options(int num_ranks, int num_processes = 1) {
    RankGroupOptions options{.model_path = folder_,
                             .tensor_parallel_size = num_ranks,
                             .device = {DeviceKind::kCuda, 0},
                             .runner = TinyRunnerOptions()};
    options.nccl = &nccl_;
    options.make_backend = [this](Device device, int num_threads) {
      auto backend = std::make_unique<GpuStandIn>(device.index, num_threads);
      last_device_ = backend.get();
      return std::unique_ptr<Backend>(std::move(backend));
    };
    options.processes.num_processes = num_processes;
    if (num_processes > 1) {
      options.processes.port = (*FrameListener::Listen("127.0.0.1", 0))->port();
    }
    return options;
  }

  FakeNccl nccl_;
  std::atomic<GpuStandIn*> last_device_ = nullptr;  // that was made
  const std::string folder_ = ::testing::TempDir() + "/gpu_rank_group_test";
};

std::shared_ptr<StepPlan> PlanOf(int64_t step_id) {
  auto plan = std::make_shared<StepPlan>();
  plan->step_id = step_id;
  if (step_id > 1) {
    plan->work.push_back({.id = 1, .num_tokens = 1});
    return plan;
  }
  plan->starts.push_back(
      {.id = 1, .prompt = RandomTokens(kPrompt, 512, 42), .sampling = {.temperature = 0}});
  plan->work.push_back({.id = 1,
                        .path = ComputePath::kPrefill,
                        .new_pages = PageRange(0, 16),
                        .num_tokens = kPrompt});
  return plan;
}

std::vector<TokenId> Tokens(RankGroup& group) {
  std::vector<TokenId> tokens;
  for (int64_t step = 1; step <= 30; ++step) {
    const auto result = group.Execute(PlanOf(step), absl::Seconds(60));
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) break;
    tokens.push_back(result->results[0].token_ids[0]);
  }
  return tokens;
}

std::vector<std::string> Devices(const RankGroup& group) {
  std::vector<std::string> devices;
  for (const RankPlace& rank : group.ranks()) devices.push_back(rank.device);
  return devices;
}

// One process without NCCL, the ranks on one device: what the others must generate too.
std::vector<TokenId> TokensOnOneDevice(RankGroupOptions options) {
  options.comm = CommKind::kInProcess;
  const auto group = RankGroup::Create(options);
  EXPECT_TRUE(group.ok()) << group.status();
  for (const std::string& device : Devices(**group)) EXPECT_EQ(device, "cuda:0");
  return Tokens(**group);
}

TEST_F(GpuRankGroupTest, RanksOfOneProcessMeetOverNcclOrOnOneDeviceWithTheSameBits) {
  for (int num_ranks = 2; num_ranks <= 3; ++num_ranks) {
    const auto group = RankGroup::Create(Options(num_ranks));
    ASSERT_TRUE(group.ok()) << group.status();
    EXPECT_FALSE((*group)->runs_ahead());
    EXPECT_EQ(Tokens(**group), TokensOnOneDevice(Options(num_ranks)));
    EXPECT_THAT(nccl_.calls(0), ::testing::Contains("AllGather"));
  }
}

TEST_F(GpuRankGroupTest, RanksOfSeveralProcessesAreToldTheIdByTheFirst) {
  for (const auto& [ranks, processes] : std::vector<std::pair<int, int>>{{2, 2}, {3, 2}, {3, 3}}) {
    const RankGroupOptions options = Options(ranks, processes);
    std::vector<std::thread> followers;
    for (int p = 1; p < processes; ++p) {
      followers.emplace_back([options, p] {
        RankGroupOptions mine = options;
        mine.processes.process_index = p;
        const auto group = RankGroup::Create(mine);
        ASSERT_TRUE(group.ok()) << group.status();
        EXPECT_TRUE((*group)->Follow(absl::Seconds(60)).ok());
      });
    }
    auto group = RankGroup::Create(options);
    ASSERT_TRUE(group.ok()) << group.status();
    EXPECT_EQ(Tokens(**group), TokensOnOneDevice(Options(ranks)));
    group->reset();
    for (std::thread& follower : followers) follower.join();
    EXPECT_EQ(nccl_.num_alive(), 0);
  }
}

TEST_F(GpuRankGroupTest, OneRankNeedsNoNccl) {
  RankGroupOptions options = Options(1);
  const auto group = RankGroup::Create(options);
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_TRUE((*group)->runs_ahead());
  EXPECT_THAT(nccl_.calls(0), ::testing::IsEmpty());
}

TEST_F(GpuRankGroupTest, WhatNcclRefusesEndsLoadingInItsWords) {
  nccl_.FailInit(FakeNccl::kSystemError);
  const absl::Status status = RankGroup::Create(Options(2)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("ncclCommInitRankConfig: error 2"));
}

// Nobody comes back from a device that waits for a peer: the step's deadline and the abort end it.
TEST_F(GpuRankGroupTest, ADeviceThatHangsEndsTheStepAndThenTheGroup) {
  auto group = RankGroup::Create(Options(2));
  ASSERT_TRUE(group.ok()) << group.status();
  last_device_.load()->stuck = true;
  EXPECT_EQ((*group)->Execute(PlanOf(1), absl::Milliseconds(300)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  group->reset();  // does not hang
}

TEST_F(GpuRankGroupTest, WhatDoesNotGoTogetherIsNamed) {
  RankGroupOptions options = Options(2);
  options.device = {};
  options.comm = CommKind::kNccl;
  const absl::Status status = RankGroup::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("comm: NCCL needs device cuda"));
}

TEST(DeviceOfRankTest, GpusAreTakenInTurnsAndCpusNamed) {
  RankGroupOptions options;
  EXPECT_EQ(DeviceOfRank(options, CommKind::kGloo, 5, 1).ToString(), "cpu:5");
  options.device = {DeviceKind::kCuda, 2};
  EXPECT_EQ(DeviceOfRank(options, CommKind::kNccl, 0, 8).ToString(), "cuda:2");
  EXPECT_EQ(DeviceOfRank(options, CommKind::kNccl, 5, 8).ToString(), "cuda:7");
  EXPECT_EQ(DeviceOfRank(options, CommKind::kInProcess, 1, 8).ToString(), "cuda:2");
  options.device.index = 0;
  EXPECT_EQ(DeviceOfRank(options, CommKind::kNccl, 9, 8).ToString(), "cuda:1")
      << "the second host's second";
  EXPECT_EQ(DeviceOfRank(options, CommKind::kNccl, 3, 1).ToString(), "cuda:0")
      << "a process that sees one";
}

}  // namespace
}  // namespace krait::testing
