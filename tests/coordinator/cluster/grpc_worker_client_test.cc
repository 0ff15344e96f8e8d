#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "coordinator/cluster/worker_client.h"
#include "tests/support/fake_worker.h"

namespace krait {
namespace {

class Recorder final : public WorkerStreamObserver {
 public:
  void OnChunk(internal::v1::TokenChunk) override { chunk_.Notify(); }
  void OnEnd(const absl::Status& status) override {
    status_ = status;
    end_.Notify();
  }
  bool WaitForChunk() { return chunk_.WaitForNotificationWithTimeout(absl::Seconds(10)); }
  bool ended() const { return end_.HasBeenNotified(); }
  absl::Status WaitForEnd() {
    EXPECT_TRUE(end_.WaitForNotificationWithTimeout(absl::Seconds(10)));
    return status_;
  }

 private:
  absl::Notification chunk_;
  absl::Notification end_;
  absl::Status status_;
};

class GrpcWorkerClientTest : public ::testing::Test {
 protected:
  FakeWorker worker_{"worker"};
  std::unique_ptr<WorkerClientFactory> factory_ = MakeGrpcWorkerClientFactory();
};

TEST_F(GrpcWorkerClientTest, FactoryEndsWhatItsClientsStillRun) {
  worker_.SetScripts({{Chunk(0, {1}), WaitForCancel()}});
  const auto recorder = std::make_shared<Recorder>();
  auto client = factory_->Create(worker_.address());
  const auto stream = client->Generate({}, absl::InfiniteDuration(), recorder);
  ASSERT_TRUE(recorder->WaitForChunk());
  client.reset();
  factory_.reset();
  EXPECT_TRUE(recorder->ended());
  EXPECT_FALSE(recorder->WaitForEnd().ok());
  stream->Cancel();  // still legal
}

// gRPC 1.51 aborts when the last channel of a process goes away on a thread that runs callbacks.
TEST_F(GrpcWorkerClientTest, LastChannelNeverGoesAwayOnACallbackThread) {
  worker_.SetScripts({{WaitForCancel()}});
  for (int i = 0; i < 200; ++i) {
    const auto recorder = std::make_shared<Recorder>();
    factory_->Create(worker_.address())->Generate({}, absl::InfiniteDuration(), recorder)->Cancel();
    factory_.reset();
    EXPECT_TRUE(recorder->ended());
    factory_ = MakeGrpcWorkerClientFactory();
  }
}

TEST_F(GrpcWorkerClientTest, ClosedClientEndsStreamsNowAndInFuture) {
  worker_.SetScripts({{Chunk(0, {1}), WaitForCancel()}});
  const auto client = factory_->Create(worker_.address());
  const auto other = factory_->Create(worker_.address());
  const auto before = std::make_shared<Recorder>();
  const auto kept = std::make_shared<Recorder>();
  const auto after = std::make_shared<Recorder>();
  client->Generate({}, absl::InfiniteDuration(), before);
  other->Generate({}, absl::InfiniteDuration(), kept);
  ASSERT_TRUE(before->WaitForChunk());
  ASSERT_TRUE(kept->WaitForChunk());
  client->Close();
  client->Generate({}, absl::InfiniteDuration(), after);
  EXPECT_EQ(before->WaitForEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(after->WaitForEnd().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(kept->ended());
}

TEST_F(GrpcWorkerClientTest, StopsAChoiceAndTheStreamGoesOn) {
  worker_.SetScripts({{Chunk(0, {1}), WaitForRelease(), Chunk(1, {2})}});
  const auto recorder = std::make_shared<Recorder>();
  internal::v1::GenerateRequest request;
  request.set_request_id("a");
  const auto client = factory_->Create(worker_.address());
  const auto stream = client->Generate(request, absl::InfiniteDuration(), recorder);
  ASSERT_TRUE(recorder->WaitForChunk());
  stream->StopChoice(3);
  ASSERT_TRUE(worker_.AwaitStopped(1));
  EXPECT_EQ(worker_.stopped_choices(), std::vector<int>{3});
  EXPECT_FALSE(recorder->ended());
  stream->Cancel();
  recorder->WaitForEnd();
  stream->StopChoice(4);  // still legal, and does nothing
  client->Close();
  stream->StopChoice(5);
  factory_.reset();
  EXPECT_EQ(worker_.stopped_choices().size(), 1u);
}

TEST_F(GrpcWorkerClientTest, FactoryWaitsForChoicesThatAreBeingStopped) {
  worker_.SetScripts({{Chunk(0, {1}), WaitForCancel()}});
  for (int i = 0; i < 50; ++i) {
    const auto recorder = std::make_shared<Recorder>();
    const auto stream =
        factory_->Create(worker_.address())->Generate({}, absl::InfiniteDuration(), recorder);
    ASSERT_TRUE(recorder->WaitForChunk());
    stream->StopChoice(0);
    factory_.reset();
    EXPECT_TRUE(recorder->ended());
    factory_ = MakeGrpcWorkerClientFactory();
  }
}

}  // namespace
}  // namespace krait
