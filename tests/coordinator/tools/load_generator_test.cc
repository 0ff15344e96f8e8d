#include "coordinator/tools/load_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/tools/fake_generation_service.h"

namespace krait {
namespace {

class LoadGeneratorTest : public testing::Test {
 protected:
  LoadGeneratorTest() { options_.output_tokens = {3, 3}; }

  LoadCounts Run() {
    options_.coordinator = service_.address();
    recorder_ = std::make_unique<LoadRecorder>(options_);
    RequestSource source = *RequestSource::Create(options_);
    LoadGenerator generator(options_, clock_);
    EXPECT_TRUE(generator.Connect(absl::Seconds(30)).ok());
    generator.Run(source, *recorder_);
    return recorder_->counts();
  }

  const RealClock clock_;
  FakeGenerationService service_;
  LoadOptions options_;
  std::unique_ptr<LoadRecorder> recorder_;
};

TEST_F(LoadGeneratorTest, ClosedLoopKeepsItsConcurrencyAndCountsEverything) {
  options_.concurrency = 3;
  options_.requests = 40;
  const LoadCounts counts = Run();
  EXPECT_EQ(counts.completed, 40);
  EXPECT_EQ(counts.prompt_tokens, 200);
  EXPECT_EQ(recorder_->tokens_in_window(), 120);
  EXPECT_EQ(recorder_->ttft.count(), 40);
  EXPECT_EQ(recorder_->inter_token.count(), 80);
  EXPECT_EQ(service_.requests().size(), 40u);
  EXPECT_LE(service_.most_at_once(), 3);
}

TEST_F(LoadGeneratorTest, OpenLoopCountsTheWaitOfALateStart) {
  options_.rate = 1e6;  // all arrive at once, and only one may run
  options_.max_open = 1;
  options_.requests = 30;
  EXPECT_EQ(Run().completed, 30);
  EXPECT_EQ(service_.most_at_once(), 1);
  EXPECT_GT(recorder_->start_delay.max(), absl::ZeroDuration());
  EXPECT_GE(recorder_->ttft.max(), recorder_->start_delay.max());
}

TEST_F(LoadGeneratorTest, CancelledStreamsAreNoErrors) {
  service_.NeverEnd();
  options_.cancel_rate = 1;
  options_.requests = 20;
  const LoadCounts counts = Run();
  EXPECT_EQ(counts.cancelled, 20);
  EXPECT_EQ(counts.completed + counts.failed + counts.rejected, 0);
}

TEST_F(LoadGeneratorTest, RefusalsAreCountedAndTimed) {
  service_.Refuse({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"});
  options_.requests = 20;
  const LoadCounts counts = Run();
  EXPECT_EQ(counts.rejected, 20);
  EXPECT_EQ(recorder_->reject.count(), 20);
  EXPECT_EQ(recorder_->ttft.count(), 0);
}

TEST_F(LoadGeneratorTest, NoServerIsUnavailable) {
  options_.coordinator = "127.0.0.1:1";
  const absl::Status status = LoadGenerator(options_, clock_).Connect(absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace krait
