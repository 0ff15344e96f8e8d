#include "worker/tools/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "worker/tools/bench_json.h"
#include "worker/tools/bench_table.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

BenchReport SomeReport() {
  BenchReport report{.threads = 2,
                     .ranks = 1,
                     .weight_dtype = "bf16",
                     .read_bandwidth = 42e9,
                     .best_read_bandwidth = 50e9,
                     .weight_bytes = 239e6,
                     .row_seconds = {0.009, 0.010}};
  report.batches.push_back({.batch = 1,
                            .step_seconds = 0.0078125,
                            .tokens_per_second = 111,
                            .kv_bytes = 1e6,
                            .read_bandwidth = 40.96e9});
  report.drafts.push_back({.draft = "random",
                           .drafts_by_round = {2, 0},
                           .ratios = {0.98, 1.0, 0.99},
                           .tokens_per_second = 110,
                           .plain_tokens_per_second = 111});
  return report;
}

TEST(BenchReportTest, TheFractionCountsWeightsAndKvAgainstTheBandwidthBetweenItsRuns) {
  const BenchReport report = SomeReport();
  EXPECT_DOUBLE_EQ(report.BytesPerSecond(report.batches[0]), 30.72e9);
  EXPECT_DOUBLE_EQ(report.BandwidthFraction(report.batches[0]), 0.75);
}

TEST(BenchReportTest, WithoutAMeasuredBandwidthTheFractionIsZero) {
  BenchReport report = SomeReport();
  report.batches[0].read_bandwidth = 0;
  EXPECT_EQ(report.BandwidthFraction(report.batches[0]), 0);
}

TEST(BenchJsonTest, FieldsKeepTheirNamesAndOrder) {
  EXPECT_EQ(
      BenchJson(SomeReport()),
      "{\"threads\":2,\"ranks\":1,\"weight_dtype\":\"bf16\","
      "\"read_bandwidth_bytes_per_second\":42000000000.0,\"weight_bytes\":239000000,"
      "\"state_bytes\":0,\"batches\":[{\"batch\":1,\"step_seconds\":0.0078125,"
      "\"tokens_per_second\":111.0,\"kv_bytes\":1000000,\"state_bytes\":0,"
      "\"bandwidth_fraction\":0.75,"
      "\"read_bandwidth_bytes_per_second\":40960000000.0}],"
      "\"row_seconds\":[0.009,0.01],\"drafts\":[{\"draft\":\"random\",\"tokens_per_second\":110.0,"
      "\"plain_tokens_per_second\":111.0,\"ratio\":0.99,\"ratios\":[0.98,1.0,0.99],"
      "\"acceptance\":0.0,\"same_tokens\":true,\"drafts_by_round\":[2,0]}],"
      "\"best_read_bandwidth_bytes_per_second\":50000000000.0}\n");
}

TEST(BenchJsonTest, ADraftModelsPathIsNotPrinted) {
  BenchReport report = SomeReport();
  report.drafts[0].draft = "/somewhere/draft";
  EXPECT_THAT(BenchJson(report), HasSubstr("{\"draft\":\"model\","));
}

TEST(BenchTableTest, ShowsWhatRowsCostOfOneAndHowKWent) {
  const std::string text = BenchTable(SomeReport());
  EXPECT_THAT(text, HasSubstr("    2     10.000       1.11\n"));
  EXPECT_THAT(text, HasSubstr("K by round of the first run: 2 0\n"));
}

}  // namespace
}  // namespace krait
