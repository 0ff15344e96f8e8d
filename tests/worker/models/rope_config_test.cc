// RoPE scaling as config.json and GGUF files say it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "tests/support/gguf_writer.h"
#include "worker/models/gguf_config.h"
#include "worker/models/hugging_face_rope.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kHeadDim = 8;

absl::StatusOr<RopeConfig> FromJson(const std::string& fields) {
  const std::string path = ::testing::TempDir() + "/rope_config_test.json";
  std::ofstream(path) << "{" << fields << "}";
  const auto source = HuggingFaceSource::Open(path);
  if (!source.ok()) return source.status();
  return ReadHuggingFaceRope(*source, kHeadDim);
}

TEST(HuggingFaceRopeTest, ReadsEveryTypeThatIsRun) {
  EXPECT_EQ(*FromJson(""), RopeConfig{});
  EXPECT_EQ(*FromJson(R"("rope_theta": 5e5, "rope_scaling": null)"), RopeConfig{.theta = 5e5f});
  EXPECT_EQ(*FromJson(R"("rope_scaling": {"type": "linear", "factor": 4})"),
            (RopeConfig{.scaling = LinearRopeScaling{4}}));
  EXPECT_EQ(*FromJson(R"("rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3",
                         "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192})"),
            (RopeConfig{.theta = 5e5f, .scaling = Llama3RopeScaling{8, 1, 4, 8192}}));
  EXPECT_EQ(*FromJson(R"("rope_scaling": {"rope_type": "longrope", "attention_factor": 1.0,
                         "short_factor": [1, 2, 3, 4], "long_factor": [1, 2, 3, 4]})"),
            (RopeConfig{.scaling = RopeDivisors{{1, 2, 3, 4}}}));
}

TEST(HuggingFaceRopeTest, ReadsNewerExportersParameters) {
  EXPECT_EQ(*FromJson(R"("rope_parameters": {"rope_type": "default", "rope_theta": 20000.0})"),
            RopeConfig{.theta = 20000});
  EXPECT_EQ(*FromJson(R"("rope_parameters": {"rope_type": "linear", "rope_theta": 20000.0,
                         "factor": 2.0})"),
            (RopeConfig{.theta = 20000, .scaling = LinearRopeScaling{2}}));
}

struct BadRope {
  const char* fields;
  const char* error;
};
constexpr BadRope kBadRopes[] = {
    {R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0})",
     R"(rope_scaling: {"rope_type": "yarn", ...} is not supported; "default", "linear" and)"},
    {R"("rope_scaling": {"type": "dynamic", "factor": 4.0})", "rope_scaling: {"},
    {R"("rope_scaling": {"factor": 4.0})", "rope_scaling.rope_type: missing"},
    {R"("rope_scaling": 4.0)", "rope_scaling: an object wanted"},
    {R"("rope_scaling": {"type": "linear"})", "rope_scaling.factor: a number wanted"},
    {R"("rope_scaling": {"type": "linear", "factor": 0.5})",
     "rope_scaling.factor: 0.5 is outside [1, 1e+06]"},
    {R"("rope_scaling": {"type": "linear", "factor": 2, "attention_factor": 2})",
     "rope_scaling.attention_factor: unknown field"},
    {R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
         "high_freq_factor": 4, "original_max_position_embeddings": 32})",
     "rope_scaling.high_freq_factor: 4 is not above low_freq_factor, 4"},
    {R"("rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
         "high_freq_factor": 4, "original_max_position_embeddings": 0})",
     "rope_scaling.original_max_position_embeddings: 0 is outside [1, "},
    {R"("rope_scaling": {"rope_type": "longrope", "attention_factor": 1.0,
         "short_factor": [1, 2, 3, 4], "long_factor": [1, 2, 3, 5]})",
     "rope_scaling.long_factor: must equal short_factor"},
    {R"("rope_scaling": {"rope_type": "longrope", "attention_factor": 1.2,
         "short_factor": [1, 2, 3, 4], "long_factor": [1, 2, 3, 4]})",
     "rope_scaling.attention_factor: 1.2 is not supported; 1 is"},
    {R"("rope_scaling": {"rope_type": "longrope", "attention_factor": 1.0,
         "short_factor": [1, 2, 3], "long_factor": [1, 2, 3]})",
     "rope_scaling.long_factor: a list of 4 numbers wanted"},
    {R"("rope_scaling": {"rope_type": "longrope", "attention_factor": 1.0,
         "short_factor": [1, 2, 3, 0], "long_factor": [1, 2, 3, 0]})",
     "rope_scaling.long_factor: 0 is outside [1e-06, 1e+06]"},
    {R"("rope_theta": 0.5)", "rope_theta: 0.5 is outside [1, 1e+12]"},
    {R"("rope_parameters": {"rope_type": "default"})", "rope_parameters.rope_theta: a number"},
    {R"("rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
         "partial_rotary_factor": 0.5})",
     "rope_parameters.partial_rotary_factor: unknown field"},
    {R"("rope_scaling": {"type": "linear", "factor": 2},
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4})",
     "rope_scaling: stands beside rope_parameters"},
};

TEST(HuggingFaceRopeTest, RefusesTheRestByItsName) {
  for (const BadRope& bad : kBadRopes) {
    const auto config = FromJson(bad.fields);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << bad.fields;
    EXPECT_THAT(std::string(config.status().message()),
                HasSubstr(absl::StrCat("rope_config_test.json: ", bad.error)))
        << bad.fields;
  }
}

class GgufRopeTest : public ::testing::Test {
 protected:
  GgufRopeTest() {
    writer_.AddString("general.architecture", "llama");
    for (const auto& [key, value] : {std::pair<const char*, uint32_t>{"embedding_length", 16},
                                     {"block_count", 1},
                                     {"attention.head_count", 2},
                                     {"feed_forward_length", 24},
                                     {"vocab_size", 32},
                                     {"context_length", 64}}) {
      writer_.AddUint32(absl::StrCat("llama.", key), value);
    }
    writer_.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  }

  absl::StatusOr<ModelConfig> Load() {
    const std::string path = ::testing::TempDir() + "/rope_config_test.gguf";
    writer_.Write(path);
    const auto checkpoint = Checkpoint::Open(path);
    if (!checkpoint.ok()) return checkpoint.status();
    return ReadGgufConfig(*checkpoint);
  }
  std::string Error() {
    const absl::Status status = Load().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("rope_config_test.gguf: "));
    return std::string(status.message());
  }
  void AddDivisors(std::vector<float> divisors) {
    writer_.AddTensor("rope_freqs.weight", 0, {divisors.size()},
                      std::string(reinterpret_cast<const char*>(divisors.data()),
                                  divisors.size() * sizeof(float)));
  }

  testing::GgufWriter writer_;
};

TEST_F(GgufRopeTest, HasNoScalingWithoutKeysOrWithTypeNone) {
  EXPECT_EQ(Load()->rope, RopeConfig{});
  writer_.AddString("llama.rope.scaling.type", "none");
  writer_.AddFloat32("llama.rope.scaling.factor", 4);
  EXPECT_EQ(Load()->rope, RopeConfig{});
}

TEST_F(GgufRopeTest, ReadsLinearFactors) {
  writer_.AddString("llama.rope.scaling.type", "linear");
  writer_.AddFloat32("llama.rope.scaling.factor", 4);
  writer_.AddUint32("llama.rope.scaling.original_context_length", 32);
  EXPECT_EQ(Load()->rope.scaling, RopeScaling(LinearRopeScaling{4}));
}

TEST_F(GgufRopeTest, ReadsAnOldFilesLinearFactor) {
  writer_.AddFloat32("llama.rope.scale_linear", 2);
  EXPECT_EQ(Load()->rope.scaling, RopeScaling(LinearRopeScaling{2}));
}

TEST_F(GgufRopeTest, ReadsDivisors) {
  AddDivisors({1, 1, 2.5f, 8});
  const auto config = Load();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.scaling, RopeScaling(RopeDivisors{{1, 1, 2.5f, 8}}));
}

TEST_F(GgufRopeTest, RefusesOtherTypes) {
  writer_.AddString("llama.rope.scaling.type", "yarn");
  EXPECT_THAT(Error(),
              HasSubstr("llama.rope.scaling.type: \"yarn\" is not supported; \"none\" and"));
}

TEST_F(GgufRopeTest, RefusesFactorsOutOfRange) {
  writer_.AddFloat32("llama.rope.scaling.factor", -2);
  EXPECT_THAT(Error(), HasSubstr("llama.rope.scaling.factor: -2 is outside [1, 1e+06]"));
}

TEST_F(GgufRopeTest, RefusesKeysThatItWouldNotObey) {
  writer_.AddFloat32("llama.rope.scaling.attn_factor", 1);
  EXPECT_THAT(Error(), HasSubstr("llama.rope.scaling.attn_factor: is not supported"));
}

TEST_F(GgufRopeTest, RefusesPartialRotation) {
  writer_.AddUint32("llama.rope.dimension_count", 4);
  EXPECT_THAT(Error(), HasSubstr("llama.rope.dimension_count: 4 is not the head size, 8"));
}

TEST_F(GgufRopeTest, RefusesDivisorsOfAnotherShape) {
  AddDivisors({1, 1, 2, 8, 8});
  EXPECT_THAT(Error(), HasSubstr("tensor rope_freqs.weight: shape [5] where the config needs [4]"));
}

TEST_F(GgufRopeTest, RefusesDivisorsThatAreNotPositive) {
  AddDivisors({1, 1, 0, 8});
  EXPECT_THAT(Error(), HasSubstr("tensor rope_freqs.weight: entry 2: 0 is outside [1e-06, "));
}

TEST_F(GgufRopeTest, RefusesDivisorsThatAreNotFinite) {
  AddDivisors({1, 1, NAN, 8});
  EXPECT_THAT(Error(), HasSubstr("tensor rope_freqs.weight: value [2, 0] is not finite"));
}

TEST_F(GgufRopeTest, RefusesTwoScalings) {
  AddDivisors({1, 1, 2, 8});
  writer_.AddFloat32("llama.rope.scaling.factor", 2);
  EXPECT_THAT(Error(), HasSubstr("tensor rope_freqs.weight: stands beside linear scaling"));
}

}  // namespace
}  // namespace krait
