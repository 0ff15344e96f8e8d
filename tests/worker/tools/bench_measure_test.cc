// What `bench decode` says of recurrent states: counted bytes against the formula and snapshots.

#include "worker/tools/bench_measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "worker/models/model_shape.h"
#include "worker/tools/bench_json.h"
#include "worker/tools/bench_table.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

std::string WriteShape(const std::string& mixers) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/shape-", mixers, ".json");
  std::ofstream(path) << R"({"hidden_size": 256, "num_attention_heads": 4,
      "num_key_value_heads": 1, "head_dim": 64, "intermediate_size": 96, "vocab_size": 300,
      "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "mixers": ")"
                      << mixers << "\"}";
  return path;
}

DecodeBenchOptions Options(const std::string& mixers) {
  DecodeBenchOptions options{.tokens = 400, .repeats = 1, .rows = false};
  options.synthetic = WriteShape(mixers);
  options.flags.draft = "self-trace";
  options.flags.config.max_draft_tokens = 8;
  options.flags.config.fixed_draft_tokens = true;
  options.forced_acceptance = 0.75;
  return options;
}

TEST(BenchMeasureTest, StateBytesAreThoseOfTheFormula) {
  const auto report = MeasureDecode(Options("2A2"));
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->mixers.size(), 1u);
  EXPECT_EQ(report->mixers[0].layers, 2);
  EXPECT_EQ(report->mixers[0].state_bytes, 4 * 64 * 64 * 4);
  ASSERT_EQ(report->states.size(), 2u);
  const StateResult& state = report->states[1];
  EXPECT_EQ(state.num_draft_tokens, 8);
  EXPECT_GT(state.tokens_per_step, 2);
  EXPECT_LT(state.tokens_per_step, 6);
  const double formula = state.Formula(report->mixers);
  EXPECT_NEAR(state.of_states(), formula, 0.1 * formula);
  EXPECT_TRUE(report->drafts[0].same_tokens);
  EXPECT_THAT(BenchTable(*report), HasSubstr("2 layers of mamba2: a state of 65536 bytes, folded "
                                             "every W = "));
  EXPECT_THAT(BenchJson(*report), HasSubstr("\"mixer\":\"mamba2\""));
}

// Fewer layers measured, the same bytes said.
TEST(BenchMeasureTest, APartOfTheLayersStandsForAll) {
  DecodeBenchOptions part = Options("2A2A2A");
  part.layers = 2;
  const auto report = MeasureDecode(part);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->mixers[0].layers, 3);
  EXPECT_EQ(report->layers, 2);
  for (const StateResult& state : report->states) {
    const double formula = state.Formula(report->mixers);
    EXPECT_NEAR(state.of_states(), formula, 0.1 * formula);
  }
  EXPECT_THAT(BenchTable(*report), HasSubstr("measured with 2 of 6 layers"));
}

TEST(BenchMeasureTest, APartThatStandsForNothingIsRefused) {
  DecodeBenchOptions part = Options("A2");
  part.layers = 1;
  EXPECT_EQ(ErrorField(MeasureDecode(part).status()), "layers");
}

TEST(BenchMeasureTest, Mamba1sStateIsReadAndWrittenOnceAStep) {
  const auto report = MeasureDecode(Options("1A"));
  ASSERT_TRUE(report.ok()) << report.status();
  const StateResult& state = report->states[1];
  EXPECT_EQ(state.state_read, report->mixers[0].state_bytes);
  EXPECT_EQ(state.state_written, report->mixers[0].state_bytes);
  EXPECT_EQ(state.Formula(report->mixers), 0) << "which is Mamba2's";
}

TEST(ModelShapeTest, EveryShapeOfTheRepositoryIsRead) {
  const struct {
    const char* name;
    double parameters;
  } shapes[] = {
      {"llama-3-8b", 8.030e9},
      {"mamba2-in-llama-8b-50", 8.301e9},
      {"mamba2-in-llama-8b-25", 8.437e9},
      {"mamba-in-llama-8b-50", 8.334e9},
      {"mamba-in-llama-8b-25", 8.486e9},
      {"draft-1.2b", 1.27e9},
      {"draft-0.4b", 0.383e9},
  };
  for (const auto& shape : shapes) {
    const auto config = ReadModelShape(absl::StrCat("deploy/shapes/", shape.name, ".json"));
    ASSERT_TRUE(config.ok()) << config.status();
    double parameters = 0;
    const Checkpoint checkpoint = SyntheticCheckpoint(*config);
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      parameters += static_cast<double>(tensor.num_elements());
    }
    EXPECT_NEAR(parameters, shape.parameters, 0.01 * shape.parameters) << shape.name;
  }
}

TEST(ModelShapeTest, ErrorsNameFileAndField) {
  const std::string path = WriteShape("2X");
  EXPECT_THAT(std::string(ReadModelShape(path).status().message()),
              HasSubstr("mixers: letters A, 1 and 2 wanted"));
}

}  // namespace
}  // namespace krait
