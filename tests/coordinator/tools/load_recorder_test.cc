#include "coordinator/tools/load_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/json.h"
#include "common/json_document.h"
#include "coordinator/tools/load_report.h"
#include "nlohmann/json.hpp"

namespace krait {
namespace {

absl::Duration At(int ms) { return absl::Milliseconds(ms); }

class LoadRecorderTest : public testing::Test {
 protected:
  // A stream that was to start at `intended`, started 10 ms later, and got one token a message.
  void Play(int intended, std::vector<int> token_times,
            grpc::StatusCode code = grpc::StatusCode::OK, bool cancelled = false) {
    StreamResult stream;
    stream.intended = At(intended);
    stream.started = At(intended + 10);
    stream.ended = stream.started;
    for (const int time : token_times) {
      recorder_->OnTokens(stream, 1, At(time));
      if (stream.output_tokens++ == 0) stream.first = At(time);
      stream.last = stream.ended = At(time);
    }
    stream.code = code;
    stream.cancelled = cancelled;
    recorder_->OnDone(stream);
  }
  void Make() { recorder_ = std::make_unique<LoadRecorder>(options_); }

  LoadOptions options_;
  std::unique_ptr<LoadRecorder> recorder_;
};

TEST_F(LoadRecorderTest, LatencyCountsFromTheIntendedStart) {
  Make();
  recorder_->OpenAt(At(0), At(1000));
  Play(100, {150, 170, 200});
  EXPECT_EQ(recorder_->ttft.max(), At(50));
  EXPECT_EQ(recorder_->total.max(), At(100));
  EXPECT_EQ(recorder_->start_delay.max(), At(10));
  EXPECT_EQ(recorder_->inter_token.max(), At(30));
  EXPECT_EQ(recorder_->per_token.max(), At(25));
}

TEST_F(LoadRecorderTest, MeasuresRequestsThatStartAndTokensThatComeInTheWindow) {
  Make();
  recorder_->OpenAt(At(100), absl::InfiniteDuration());
  Play(50, {90, 120, 130});  // its tokens at 120 and 130 count, its latencies do not
  Play(100, {110, 450});
  recorder_->CloseAt(At(400));
  Play(400, {410});
  EXPECT_EQ(recorder_->counts().completed, 1);
  EXPECT_EQ(recorder_->ttft.count(), 1);
  EXPECT_EQ(recorder_->tokens_in_window(), 4);
  EXPECT_DOUBLE_EQ(recorder_->seconds(), 0.3);
}

TEST_F(LoadRecorderTest, TokensOfOneMessageShareItsGap) {
  Make();
  recorder_->OpenAt(At(0), At(1000));
  StreamResult stream;
  stream.output_tokens = 1;
  stream.last = At(100);
  recorder_->OnTokens(stream, 4, At(180));
  EXPECT_EQ(recorder_->inter_token.count(), 4);
  EXPECT_NEAR(absl::ToDoubleMilliseconds(recorder_->inter_token.Quantile(0.5)), 20, 0.1);
}

TEST_F(LoadRecorderTest, EndsAreToldApart) {
  Make();
  recorder_->OpenAt(At(0), At(1000));
  Play(1, {2});
  Play(1, {}, grpc::StatusCode::RESOURCE_EXHAUSTED);
  Play(1, {2}, grpc::StatusCode::RESOURCE_EXHAUSTED);  // after a token: no refusal
  Play(1, {2}, grpc::StatusCode::UNAVAILABLE);
  Play(1, {2}, grpc::StatusCode::CANCELLED, /*cancelled=*/true);
  Play(1, {2}, grpc::StatusCode::CANCELLED);
  const LoadCounts counts = recorder_->counts();
  EXPECT_EQ(counts.completed, 1);
  EXPECT_EQ(counts.rejected, 1);
  EXPECT_EQ(counts.failed, 3);
  EXPECT_EQ(counts.cancelled, 1);
  EXPECT_THAT(counts.errors, testing::ElementsAre(testing::Pair("CANCELLED", 1),
                                                  testing::Pair("RESOURCE_EXHAUSTED", 2),
                                                  testing::Pair("UNAVAILABLE", 1)));
  EXPECT_EQ(recorder_->reject.max(), At(10));
}

TEST_F(LoadRecorderTest, GoodRequestsKeepBothLimits) {
  options_.slo_ttft_ms = 50;
  options_.slo_itl_ms = 20;
  Make();
  recorder_->OpenAt(At(0), At(2000));
  Play(0, {50, 70, 90});   // at both limits
  Play(0, {51, 60});       // late
  Play(0, {50, 60, 100});  // slow
  Play(0, {}, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(recorder_->counts().good, 1);
  const auto report = LoadReport(options_, *recorder_);
  EXPECT_EQ(report["goodput"]["share"].get<double>(), 0.25);
  EXPECT_EQ(report["goodput"]["requests_per_second"].get<double>(), 0.5);
}

TEST_F(LoadRecorderTest, ReportIsOneDocumentAndSaysNothingOfWhatWasNotMeasured) {
  Make();
  recorder_->OpenAt(At(0), At(1000));
  const auto empty = ParseJson(DumpJson(LoadReport(options_, *recorder_)));
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_TRUE(empty->Find("time_to_first_token_ms")->is_null());
  EXPECT_TRUE(empty->Find("goodput")->Find("share")->is_null());
  Play(0, {20, 30});
  const auto report = LoadReport(options_, *recorder_);
  EXPECT_EQ(report["loop"].get<std::string>(), "closed");
  EXPECT_EQ(report["time_to_first_token_ms"]["max"].get<double>(), 20.0);
  EXPECT_THAT(LoadTable(report), testing::HasSubstr("1 completed"));
}

}  // namespace
}  // namespace krait
