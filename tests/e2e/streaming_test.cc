// One target and one draft behind a coordinator: what a client sees.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "google/rpc/status_details.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"

namespace krait {
namespace {

class StreamingTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = new Cluster(TargetModel());
    cluster_->AddTarget("target", 2);
    cluster_->Start();
  }
  static void TearDownTestSuite() {
    delete cluster_;
    cluster_ = nullptr;
  }

  GenerateOutcome Run(const v1::GenerateRequest& request) { return cluster_->Generate(request); }

  // Every slot and page is free again.
  void ExpectIdle() {
    EXPECT_TRUE(cluster_->WaitFor(
        [](const v1::ListWorkersResponse& workers) {
          const auto& load = workers.workers(0).load();
          return load.running() == 0 && load.waiting() == 0 && load.pages_used() == 0;
        },
        absl::Seconds(5)));
  }

  static Cluster* cluster_;
};

Cluster* StreamingTest::cluster_ = nullptr;

TEST_F(StreamingTest, StreamsEveryTokenOnceAndThenOneFinish) {
  const GenerateOutcome outcome = Run(GreedyRequest("hello world", 50));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_TRUE(outcome.contiguous);
  EXPECT_EQ(outcome.token_ids.size(), 50u);
  EXPECT_EQ(outcome.finish_chunks, 1);
  EXPECT_EQ(outcome.finish_reason, v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(outcome.usage.completion_tokens(), 50);
  EXPECT_GT(outcome.usage.prompt_tokens(), 0);
  ExpectIdle();
}

// The stream shows bytes that are no UTF-8 as U+FFFD; Detokenize returns them as they are. This
// prompt's output is compared up to the first of them.
TEST_F(StreamingTest, TextIsTheDetokenizedTokens) {
  const GenerateOutcome outcome = Run(GreedyRequest("hello world", 40));
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  request.set_skip_special_tokens(true);
  for (int id : outcome.token_ids) request.add_token_ids(id);
  v1::DetokenizeResponse response;
  ASSERT_TRUE(cluster_->generation().Detokenize(&context, request, &response).ok());
  const size_t valid = outcome.text.find("\xEF\xBF\xBD");
  EXPECT_GT(std::min(valid, outcome.text.size()), 10u);
  EXPECT_EQ(outcome.text.substr(0, valid), response.text().substr(0, valid));
}

TEST_F(StreamingTest, SameSeedSameTokensOtherSeedOtherTokens) {
  const GenerateOutcome first = Run(SeededRequest("seeds", 40, 7));
  const GenerateOutcome again = Run(SeededRequest("seeds", 40, 7));
  const GenerateOutcome other = Run(SeededRequest("seeds", 40, 8));
  EXPECT_EQ(first.token_ids, again.token_ids);
  EXPECT_EQ(first.logprobs, again.logprobs);
  EXPECT_EQ(first.logprobs.size(), 40u);
  EXPECT_NE(first.token_ids, other.token_ids);
}

TEST_F(StreamingTest, StopTokenEndsTheStream) {
  const GenerateOutcome free = Run(GreedyRequest("stop", 30));
  ASSERT_EQ(free.token_ids.size(), 30u);
  v1::GenerateRequest request = GreedyRequest("stop", 30);
  request.mutable_sampling()->add_stop_token_ids(free.token_ids[10]);
  const GenerateOutcome stopped = Run(request);
  EXPECT_EQ(stopped.finish_reason, v1::FINISH_REASON_STOP);
  EXPECT_LE(stopped.token_ids.size(), 11u);
  EXPECT_TRUE(
      std::equal(stopped.token_ids.begin(), stopped.token_ids.end(), free.token_ids.begin()));
}

TEST_F(StreamingTest, StopStringCutsTheTextBeforeIt) {
  const GenerateOutcome free = Run(GreedyRequest("cut", 60));
  ASSERT_GT(free.text.size(), 20u);
  const std::string stop = free.text.substr(free.text.size() / 2, 3);
  v1::GenerateRequest request = GreedyRequest("cut", 60);
  request.mutable_sampling()->add_stop(stop);
  const GenerateOutcome stopped = Run(request);
  EXPECT_EQ(stopped.finish_reason, v1::FINISH_REASON_STOP);
  EXPECT_EQ(stopped.text, free.text.substr(0, free.text.find(stop)));
  ExpectIdle();
}

TEST_F(StreamingTest, BadRequestsNameTheFieldAndHarmNobody) {
  v1::GenerateRequest request = GreedyRequest("bad", 8);
  request.mutable_sampling()->set_top_p(1.5);
  grpc::Status status = Run(request).status;
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::HasSubstr("top_p"));

  request = GreedyRequest("bad \xff", 8);
  status = Run(request).status;
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::HasSubstr("4"));  // the offending byte's offset

  request = GreedyRequest("bad", 1'000'000'000);
  EXPECT_EQ(Run(request).status.error_code(), grpc::INVALID_ARGUMENT);
  request = GreedyRequest("bad", 8);
  request.set_model("no-such-model");
  EXPECT_EQ(Run(request).status.error_code(), grpc::NOT_FOUND);
  EXPECT_TRUE(Run(GreedyRequest("good", 8)).status.ok());
}

TEST_F(StreamingTest, CancelFreesTheSlot) {
  const GenerateOutcome outcome = cluster_->Generate(
      GreedyRequest("cancel me", 1500),
      [](const v1::GenerateResponse&, grpc::ClientContext& context) { context.TryCancel(); });
  EXPECT_EQ(outcome.status.error_code(), grpc::CANCELLED);
  EXPECT_LT(outcome.token_ids.size(), 1500u);
  ExpectIdle();
}

TEST_F(StreamingTest, DeadlineEndsTheStreamAndFreesTheSlot) {
  const GenerateOutcome outcome =
      cluster_->Generate(GreedyRequest("too slow", 1900), nullptr, absl::Milliseconds(60));
  EXPECT_EQ(outcome.status.error_code(), grpc::DEADLINE_EXCEEDED);
  ExpectIdle();
}

TEST_F(StreamingTest, ConcurrentStreamsEqualLoneOnes) {
  std::vector<GenerateOutcome> alone, together(6);
  for (int i = 0; i < 6; ++i)
    alone.push_back(Run(SeededRequest("row " + std::to_string(i), 30 + 9 * i, i)));
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      together[i] = cluster_->Generate(SeededRequest("row " + std::to_string(i), 30 + 9 * i, i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(alone[i].token_ids, together[i].token_ids) << i;
    EXPECT_EQ(alone[i].logprobs, together[i].logprobs) << i;
  }
  ExpectIdle();
}

TEST_F(StreamingTest, HealthServesAndAdminAnswers) {
  auto health = grpc::health::v1::Health::NewStub(cluster_->channel());
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(health->Check(&context, {}, &response).ok());
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  for (const char* name : {"coordinator", "target"}) {
    EXPECT_FALSE(HttpGet(cluster_->admin_address(name), "/livez").empty()) << name;
    EXPECT_FALSE(HttpGet(cluster_->admin_address(name), "/readyz").empty()) << name;
    EXPECT_THAT(HttpGet(cluster_->admin_address(name), "/metrics"), testing::HasSubstr("krait_"));
  }
}

TEST_F(StreamingTest, GeneratedTokensAreCounted) {
  const auto count = [] {
    return MetricValue(HttpGet(cluster_->admin_address("target"), "/metrics"),
                       "krait_generation_tokens_total");
  };
  ExpectIdle();
  const double before = count();
  Run(GreedyRequest("count", 25));
  // The worker counts a step after its tokens are on their way.
  for (int i = 0; i < 200 && count() < before + 25; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(count() - before, 25);
}

// Several times the bytes that the windows and buffers between a worker and a client hold.
constexpr int kLongChoices = 4;
v1::GenerateRequest LongRequest(const std::string& prompt) {
  v1::GenerateRequest request = SeededRequest(prompt, 1900, 3);
  request.mutable_sampling()->set_logprobs(20);
  request.mutable_sampling()->set_n(kLongChoices);
  return request;
}

// A client that has begun a stream and reads none of it.
class StalledClient {
 public:
  StalledClient(Cluster& cluster, const v1::GenerateRequest& request) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // a window of 64 KiB
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel = grpc::CreateCustomChannel(cluster.coordinator_config().listen(),
                                                   grpc::InsecureChannelCredentials(), arguments);
    reader_ = v1::GenerationService::NewStub(channel)->Generate(&context_, request);
  }
  // Reads to the end.
  grpc::Status ReadAll() {
    for (v1::GenerateResponse response; reader_->Read(&response);) {
      std::vector<int>& token_ids = choices[response.index()];
      token_ids.insert(token_ids.end(), response.token_ids().begin(), response.token_ids().end());
      if (response.index() != 0) continue;
      for (const auto& position : response.logprobs()) {
        logprobs.push_back(position.token().logprob());
      }
    }
    return reader_->Finish();
  }
  std::map<int, std::vector<int>> choices;
  std::vector<float> logprobs;  // of choice 0

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader_;
};

bool PausedAre(Cluster& cluster, int count) {
  return cluster.WaitFor(
      [count](const v1::ListWorkersResponse& workers) {
        const auto& load = workers.workers(0).load();
        return load.paused() == count && load.running() == 0;
      },
      absl::Seconds(60));
}

TEST_F(StreamingTest, AClientThatStopsReadingPausesItsStreamAndGetsEveryTokenLater) {
  const GenerateOutcome undisturbed = Run(LongRequest("stalls"));
  ASSERT_EQ(undisturbed.token_ids.size(), 1900u);
  const GenerateOutcome neighbour = Run(SeededRequest("neighbour", 50, 4));
  StalledClient stalled(*cluster_, LongRequest("stalls"));
  ASSERT_TRUE(PausedAre(*cluster_, kLongChoices));
  const GenerateOutcome beside = Run(SeededRequest("neighbour", 50, 4));
  EXPECT_EQ(beside.token_ids, neighbour.token_ids);
  EXPECT_EQ(beside.logprobs, neighbour.logprobs);
  EXPECT_TRUE(PausedAre(*cluster_, kLongChoices));
  const grpc::Status status = stalled.ReadAll();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(stalled.choices, undisturbed.choices);
  EXPECT_EQ(stalled.logprobs, undisturbed.logprobs);
  EXPECT_TRUE(PausedAre(*cluster_, 0));
  ExpectIdle();
}

TEST(SlowClientTest, LosesItsStreamAfterTheLimitAndItsSlotIsFree) {
  Cluster cluster(TargetModel());
  cluster.coordinator_config().set_slow_client_timeout_ms(3000);
  cluster.AddTarget("target");
  cluster.Start();
  const GenerateOutcome undisturbed = cluster.Generate(LongRequest("never reads"));
  StalledClient stalled(cluster, LongRequest("never reads"));
  const auto slow_clients = [&] {
    return MetricValue(HttpGet(cluster.admin_address("coordinator"), "/metrics"),
                       "krait_slow_clients_total");
  };
  for (int i = 0; i < 600 && slow_clients() == 0; ++i) absl::SleepFor(absl::Milliseconds(100));
  const grpc::Status status = stalled.ReadAll();
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "slow_client_timeout_ms: the client read nothing for 3000 ms");
  for (const auto& [choice, token_ids] : stalled.choices) {
    const std::vector<int>& all = undisturbed.choices.at(choice);
    ASSERT_LT(token_ids.size(), all.size());
    EXPECT_TRUE(std::equal(token_ids.begin(), token_ids.end(), all.begin())) << choice;
  }
  EXPECT_TRUE(cluster.Generate(GreedyRequest("next", 20)).status.ok());
  EXPECT_TRUE(PausedAre(cluster, 0));
}

TEST(AdmissionTest, OverTheTokenBudgetIsRefusedWithRetryInfo) {
  Cluster cluster(TargetModel());
  cluster.coordinator_config().set_token_budget(400);
  cluster.AddTarget("target");
  cluster.Start();
  absl::Notification first_token, refused;
  std::thread holder([&] {
    cluster.Generate(GreedyRequest("holds the budget", 350),
                     [&](const v1::GenerateResponse&, grpc::ClientContext&) {
                       if (!first_token.HasBeenNotified()) first_token.Notify();
                       refused.WaitForNotification();
                     });
  });
  first_token.WaitForNotification();
  const grpc::Status status = cluster.Generate(GreedyRequest("one too many", 350)).status;
  refused.Notify();
  holder.join();
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::RetryInfo retry;
  EXPECT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_TRUE(cluster.Generate(GreedyRequest("room again", 20)).status.ok());
}

}  // namespace
}  // namespace krait
