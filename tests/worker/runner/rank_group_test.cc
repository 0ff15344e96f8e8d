#include "worker/runner/rank_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/support/random_tokens.h"
#include "tests/support/runner_bench.h"
#include "tests/support/tiny_checkpoint.h"
#include "worker/comm/frame_socket.h"
#include "worker/runner/step_plan_codec.h"

namespace krait::testing {
namespace {

std::string Write(const TinyModel& model, const std::string& name) {
  const std::string folder = ::testing::TempDir() + "/rank_group_test_" + name;
  const absl::Status status = WriteTinyFolder(model, folder);
  EXPECT_TRUE(status.ok()) << status;
  return folder;
}

RankGroupOptions Options(int num_ranks) {
  static const std::string* const folder =
      new std::string(Write(MakeTinyModel({.num_layers = 2, .seed = 41}), "plain"));
  return {.model_path = *folder,
          .tensor_parallel_size = num_ranks,
          .num_threads = 2,
          .runner = TinyRunnerOptions()};
}

std::shared_ptr<StepPlan> FirstPlan() {
  auto plan = std::make_shared<StepPlan>();
  plan->step_id = 1;
  plan->starts.push_back(
      {.id = 1, .prompt = RandomTokens(10, 512, 42), .sampling = {.temperature = 0}});
  plan->work.push_back(
      {.id = 1, .path = ComputePath::kPrefill, .new_pages = PageRange(0, 16), .num_tokens = 10});
  return plan;
}

std::shared_ptr<StepPlan> NextPlan(int64_t step_id) {
  auto plan = std::make_shared<StepPlan>();
  plan->step_id = step_id;
  plan->work.push_back({.id = 1, .num_tokens = 1});
  return plan;
}

std::vector<TokenId> GreedyTokens(RankGroup& group, int num_tokens) {
  std::vector<TokenId> tokens;
  for (int step = 1; step <= num_tokens; ++step) {
    const absl::StatusOr<StepResult> result =
        group.Execute(step == 1 ? FirstPlan() : NextPlan(step), absl::Seconds(60));
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) break;
    EXPECT_EQ(result->step_id, step);
    tokens.push_back(result->results[0].token_ids[0]);
  }
  return tokens;
}

TEST(RankGroupTest, EveryDegreeGeneratesTheSameTokensAndReportsTheSameModel) {
  const auto one = *RankGroup::Create(Options(1));
  const std::vector<TokenId> expected = GreedyTokens(*one, 30);
  EXPECT_EQ(expected.size(), 30u);
  for (int num_ranks = 2; num_ranks <= 3; ++num_ranks) {
    const auto group = *RankGroup::Create(Options(num_ranks));
    EXPECT_EQ(GreedyTokens(*group, 30), expected);
    EXPECT_EQ(group->weights_digest(), one->weights_digest());
    EXPECT_EQ(group->kv_bytes_per_token(), one->kv_bytes_per_token());
    EXPECT_EQ(static_cast<int>(group->ranks().size()), num_ranks);
  }
  EXPECT_EQ(one->config().num_layers, 2);
  ASSERT_EQ(one->ranks().size(), 1u);
  EXPECT_EQ(one->ranks()[0].device, "cpu:0");
  EXPECT_EQ(one->weights_digest().size(), 64u);
}

TEST(RankGroupTest, TooManyRanksNamesTheFieldAndTheLimit) {
  const absl::Status status = RankGroup::Create(Options(4)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(status.message()),
      ::testing::AllOf(::testing::HasSubstr("tensor_parallel_size"), ::testing::HasSubstr("3")));
}

TEST(RankGroupTest, AMissingTensorIsNamedAtEveryDegree) {
  TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 43});
  model.tensors.erase("model.layers.1.self_attn.k_proj.weight");
  RankGroupOptions options = Options(3);
  options.model_path = Write(model, "missing");
  const absl::Status status = RankGroup::Create(options).status();
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("model.layers.1.self_attn.k_proj.weight"));
}

TEST(RankGroupTest, ATensorTheModelWouldIgnoreIsRefused) {
  TinyModel model = MakeTinyModel({.num_layers = 2, .seed = 44});
  model.tensors["model.layers.0.self_attn.q_proj.bias"] = {{48}, std::vector<float>(48)};
  RankGroupOptions options = Options(2);
  options.model_path = Write(model, "ignored");
  const absl::Status status = RankGroup::Create(options).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("model.layers.0.self_attn.q_proj.bias"));
}

TEST(RankGroupTest, LoadingReportsProgressThatOnlyRises) {
  std::vector<double> fractions;
  RankGroupOptions options = Options(3);
  options.runner.on_progress = [&fractions](double fraction) { fractions.push_back(fraction); };
  ASSERT_TRUE(RankGroup::Create(options).ok());
  ASSERT_FALSE(fractions.empty());
  EXPECT_TRUE(std::is_sorted(fractions.begin(), fractions.end()));
  EXPECT_DOUBLE_EQ(fractions.back(), 1.0);
}

TEST(RankGroupTest, AStepOverItsDeadlineMakesTheGroupUnusable) {
  const auto group = *RankGroup::Create(Options(2));
  const std::shared_ptr<StepPlan> plan = FirstPlan();  // made long: no rank is through at once
  plan->starts[0].prompt = RandomTokens(250, 512, 45);
  plan->work[0].new_pages = PageRange(0, 64);
  plan->work[0].num_tokens = 250;
  EXPECT_EQ(group->Execute(plan, absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(group->Execute(NextPlan(2), absl::Seconds(60)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(RankGroupTest, ABadPlanIsReportedWithItsReasonAndEndsTheGroup) {
  const auto group = *RankGroup::Create(Options(3));
  const absl::Status status = group->Execute(NextPlan(1), absl::Seconds(60)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("unknown"));
  EXPECT_FALSE(group->Execute(FirstPlan(), absl::Seconds(60)).ok());
}

int FreePort() { return (*FrameListener::Listen("127.0.0.1", 0))->port(); }

// The processes of a group but the first, as threads.
class Followers {
 public:
  explicit Followers(const RankGroupOptions& leader) : status_(leader.processes.num_processes) {
    for (int p = 1; p < leader.processes.num_processes; ++p) {
      RankGroupOptions options = leader;
      options.processes.process_index = p;
      threads_.emplace_back([this, options, p] {
        const auto group = RankGroup::Create(options);
        status_[p] = group.ok() ? (*group)->Follow(absl::Seconds(60)) : group.status();
      });
    }
  }
  // By process.
  std::vector<absl::Status> Join() {
    for (std::thread& thread : threads_) thread.join();
    return status_;
  }

 private:
  std::vector<absl::Status> status_;
  std::vector<std::thread> threads_;
};

RankGroupOptions OptionsOfProcesses(int num_ranks, int num_processes) {
  signal(SIGPIPE, SIG_IGN);  // as the processes do
  RankGroupOptions options = Options(num_ranks);
  options.processes.num_processes = num_processes;
  options.processes.port = FreePort();
  options.processes.settings = "same";
  return options;
}

TEST(RankGroupTest, RanksInSeveralProcessesGenerateTheSameTokens) {
  const auto one = *RankGroup::Create(Options(1));
  const std::vector<TokenId> expected = GreedyTokens(*one, 30);
  for (const auto& [ranks, processes] : std::vector<std::pair<int, int>>{{2, 2}, {3, 2}, {3, 3}}) {
    const RankGroupOptions options = OptionsOfProcesses(ranks, processes);
    Followers followers(options);
    auto group = RankGroup::Create(options);
    ASSERT_TRUE(group.ok()) << group.status();
    EXPECT_EQ(GreedyTokens(**group, 30), expected) << ranks << " ranks, " << processes;
    EXPECT_EQ((*group)->weights_digest(), one->weights_digest());
    EXPECT_EQ((*group)->kv_bytes_per_token(), one->kv_bytes_per_token());
    EXPECT_EQ(static_cast<int>((*group)->ranks().size()), ranks);
    group->reset();
    for (const absl::Status& status : followers.Join()) EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(RankGroupTest, ABadPlanEndsEveryProcess) {
  const RankGroupOptions options = OptionsOfProcesses(3, 3);
  Followers followers(options);
  auto group = *RankGroup::Create(options);
  EXPECT_FALSE(group->Execute(NextPlan(1), absl::Seconds(60)).ok());
  group.reset();
  const std::vector<absl::Status> status = followers.Join();
  EXPECT_FALSE(status[1].ok());
  EXPECT_FALSE(status[2].ok());
}

// Stands between process 0 and the one other, and changes the plans on their way to it.
class PlanForger {
 public:
  PlanForger(int leader_port, std::function<void(StepPlan&)> forge)
      : forge_(std::move(forge)), thread_([this, leader_port] { Run(leader_port); }) {}
  ~PlanForger() { thread_.join(); }
  int port() const { return listener_->port(); }

 private:
  void Run(int leader_port) {
    follower_ = *listener_->Accept(absl::Seconds(60));
    leader_ = *FrameSocket::Dial("127.0.0.1", leader_port, absl::Seconds(60));
    std::thread upwards([this] { PassOn(*follower_, *leader_, false); });
    PassOn(*leader_, *follower_, true);
    upwards.join();
  }
  void PassOn(FrameSocket& from, FrameSocket& to, bool forge) {
    for (;;) {
      const auto frame = from.Receive(absl::Milliseconds(50));
      if (!frame.ok()) break;
      if (!frame->has_value()) continue;
      std::string payload = (*frame)->payload;
      auto plan = DecodeStepPlan(payload);
      if (forge && plan.ok() && !plan->starts.empty()) {
        forge_(*plan);
        payload = EncodeStepPlan(*plan);
      }
      if (!to.Send((*frame)->kind, payload, absl::Seconds(10)).ok()) break;
    }
    from.Shutdown();
    to.Shutdown();
  }

  const std::function<void(StepPlan&)> forge_;
  const std::unique_ptr<FrameListener> listener_ = *FrameListener::Listen("127.0.0.1", 0);
  std::unique_ptr<FrameSocket> follower_, leader_;
  std::thread thread_;
};

TEST(RankGroupTest, AProcessThatGotAnotherPlanEndsTheGroup) {
  const std::function<void(StepPlan&)> forgeries[] = {
      [](StepPlan& plan) { plan.work[0].new_pages.back() += 1; },
      [](StepPlan& plan) { plan.starts[0].prompt[3] ^= 1; },
      [](StepPlan& plan) { plan.starts[0].sampling.seed ^= 1; },
  };
  for (const auto& forge : forgeries) {
    const RankGroupOptions options = OptionsOfProcesses(2, 2);
    const PlanForger forger(options.processes.port, forge);
    RankGroupOptions misled = options;
    misled.processes.port = forger.port();
    Followers followers(misled);
    auto group = *RankGroup::Create(options);
    const absl::Status status = group->Execute(FirstPlan(), absl::Seconds(60)).status();
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(group->Execute(NextPlan(2), absl::Seconds(60)).ok()) << "it is of no use any more";
    group.reset();
    const absl::Status followed = followers.Join()[1];
    EXPECT_FALSE(followed.ok());
    // Whoever sees it first may break the other's connection before he does.
    EXPECT_THAT(absl::StrCat(status.ToString(), followed.ToString()),
                ::testing::HasSubstr("disagrees with rank 0 on the plan's hash"));
  }
}

TEST(RankGroupTest, ProcessesWithOtherWeightsFormNoGroup) {
  RankGroupOptions options = OptionsOfProcesses(2, 2);
  RankGroupOptions other = options;
  other.model_path = Write(MakeTinyModel({.num_layers = 2, .seed = 99}), "other");
  Followers followers(other);
  const absl::Status status = RankGroup::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_FALSE(followers.Join()[1].ok());
}

TEST(RankGroupTest, ALostProcessIsReportedAndTheStepFails) {
  RankGroupOptions options = OptionsOfProcesses(2, 2);
  absl::Notification lost;
  options.on_lost = [&lost](const absl::Status&) { lost.Notify(); };
  std::unique_ptr<RankGroup> follower;
  std::thread joins([&] {
    RankGroupOptions second = options;
    second.processes.process_index = 1;
    second.on_lost = nullptr;
    follower = *RankGroup::Create(second);
  });
  const auto group = *RankGroup::Create(options);
  joins.join();
  follower.reset();
  lost.WaitForNotification();
  EXPECT_TRUE(absl::IsUnavailable(group->Execute(FirstPlan(), absl::Seconds(60)).status()));
}

}  // namespace
}  // namespace krait::testing
