#include "worker/worker_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace krait {
namespace {

using ::testing::HasSubstr;

class WorkerMetricsTest : public ::testing::Test {
 protected:
  // The line of a series with the constant label.
  static std::string Line(const std::string& name, const std::string& labels, double value) {
    return "\n" + name + "{" + labels + "model_name=\"m\"" + "} " +
           std::to_string(static_cast<int>(value)) + "\n";
  }
  void ExpectSeries(const std::string& name, double value) {
    EXPECT_THAT(registry_.Serialize(), HasSubstr(Line(name, "", value)));
  }

  Metrics registry_{MetricLabels{{"model_name", "m"}}};
  WorkerMetrics metrics_{&registry_};
};

TEST_F(WorkerMetricsTest, EverySeriesIsThereAtZero) {
  const std::string text = registry_.Serialize();
  for (const char* outcome : {"ok", "missing", "late", "stale", "malformed", "error"}) {
    EXPECT_THAT(text, HasSubstr("outcome=\"" + std::string(outcome) + "\"} 0\n"));
  }
  EXPECT_THAT(text, HasSubstr("position=\"14\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("reason=\"tokenizer_mismatch\"} 0\n"));
}

TEST_F(WorkerMetricsTest, StepsAddUp) {
  StepStats stats;
  stats.prefill_tokens = 7;
  stats.decode_rows = 3;
  stats.generated_tokens = 5;
  stats.speculating_sequences = 2;
  stats.draft_tokens = 6;
  stats.accepted_tokens = 2;
  metrics_.OnStep(stats);
  metrics_.OnStep(stats);
  ExpectSeries("krait_prompt_tokens_total", 14);
  ExpectSeries("krait_generation_tokens_total", 10);
  ExpectSeries("krait_spec_decode_num_drafts_total", 4);
  ExpectSeries("krait_spec_decode_num_draft_tokens_total", 12);
  ExpectSeries("krait_spec_decode_num_accepted_tokens_total", 4);
  ExpectSeries("krait_draft_wait_seconds_count", 0);
}

TEST_F(WorkerMetricsTest, PartsOfAStepAreObservedApart) {
  StepStats stats;
  stats.scheduling = absl::Seconds(1);
  stats.draft_wait = absl::Seconds(2);
  stats.model = absl::Seconds(3);
  stats.delivery = absl::Seconds(4);
  metrics_.OnStep(stats);
  const std::string text = registry_.Serialize();
  for (const auto& [phase, seconds] : {std::pair<std::string, std::string>{"schedule", "1"},
                                       {"draft", "2"},
                                       {"model", "3"},
                                       {"deliver", "4"}}) {
    EXPECT_THAT(text, HasSubstr("krait_step_phase_seconds_sum{model_name=\"m\",phase=\"" + phase +
                                "\"} " + seconds + "\n"));
  }
}

TEST_F(WorkerMetricsTest, DisabledReasonsAreCountedWhenTheyBegin) {
  StepStats off;
  off.speculation_disabled_reason = "tokenizer_mismatch";
  metrics_.OnStep(off);
  metrics_.OnStep(off);
  EXPECT_THAT(
      registry_.Serialize(),
      HasSubstr("krait_spec_disabled_total{model_name=\"m\",reason=\"tokenizer_mismatch\"} 1\n"));
  EXPECT_THAT(registry_.Serialize(),
              HasSubstr("krait_spec_disabled{model_name=\"m\",reason=\"tokenizer_mismatch\"} 1\n"));
  metrics_.OnStep(StepStats());
  EXPECT_THAT(registry_.Serialize(),
              HasSubstr("krait_spec_disabled{model_name=\"m\",reason=\"tokenizer_mismatch\"} 0\n"));
}

TEST_F(WorkerMetricsTest, AnUnlistedReasonIsOther) {
  StepStats off;
  off.speculation_disabled_reason = "made up";
  metrics_.OnStep(off);
  EXPECT_THAT(registry_.Serialize(),
              HasSubstr("krait_spec_disabled_total{model_name=\"m\",reason=\"other\"} 1\n"));
}

TEST_F(WorkerMetricsTest, EndsAreCountedByReason) {
  metrics_.OnFinished(absl::OkStatus(), FinishReason::kLength, 3, 4, absl::Seconds(1));
  metrics_.OnFinished(absl::CancelledError(""), FinishReason::kNone, 3, 1, absl::Seconds(1));
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("finished_reason=\"length\",model_name=\"m\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("finished_reason=\"cancelled\",model_name=\"m\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("finished_reason=\"stop\",model_name=\"m\"} 0\n"));
}

TEST_F(WorkerMetricsTest, MemoryIsExportedAndItsUseFollowsTheLoad) {
  metrics_.SetMemory({.weight_bytes = 100,
                      .num_pages = 8,
                      .kv_bytes = 800,
                      .num_state_slots = 4,
                      .state_bytes = 4000,
                      .ring_bytes = 40,
                      .fold_interval = 32});
  metrics_.SetLoad({.pages_used = 8, .state_slots_used = 3});
  ExpectSeries("krait_weight_bytes", 100);
  ExpectSeries("krait_kv_pages", 8);
  ExpectSeries("krait_kv_pages_used", 8);
  ExpectSeries("krait_kv_cache_usage_perc", 1);
  ExpectSeries("krait_kv_cache_bytes", 800);
  ExpectSeries("krait_state_slots", 4);
  ExpectSeries("krait_state_slots_used", 3);
  ExpectSeries("krait_state_bytes", 4000);
  ExpectSeries("krait_state_ring_bytes", 40);
  ExpectSeries("krait_state_checkpoint_interval_tokens", 32);
  ExpectSeries("krait_in_process_draft_bytes", 0);
  metrics_.SetDraftMemory(
      {.weight_bytes = 1, .num_pages = 7, .kv_bytes = 20, .state_bytes = 300, .ring_bytes = 4000});
  ExpectSeries("krait_in_process_draft_bytes", 4321);
  ExpectSeries("krait_weight_bytes", 100);
}

TEST_F(WorkerMetricsTest, PositionsBeyondTheLastAreIgnored) {
  metrics_.OnAccepted(14, true);
  metrics_.OnAccepted(15, true);
  metrics_.OnAccepted(0, false);
  EXPECT_THAT(registry_.Serialize(), HasSubstr("position=\"14\"} 1\n"));
}

}  // namespace
}  // namespace krait
