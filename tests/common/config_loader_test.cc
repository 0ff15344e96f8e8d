#include "common/config_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "krait/config.pb.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

TEST(ConfigLoader, ReadsNestedFieldsEnumsAndLists) {
  WorkerConfig config;
  const absl::Status status = ParseConfig(
      R"({"role": "DRAFT", "model_path": "m.gguf", "page_size": 32, "weight_dtype": "F32",
          "coordinators": ["a:1", "b:2"], "limits": {"max_request_kib": 64}})",
      "w.json", config);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(config.role(), WorkerConfig::DRAFT);
  EXPECT_EQ(config.model_path(), "m.gguf");
  EXPECT_EQ(config.page_size(), 32);
  EXPECT_FALSE(config.has_threads());
  EXPECT_EQ(config.coordinators_size(), 2);
  EXPECT_EQ(config.limits().max_request_kib(), 64);
}

std::string ParseError(const std::string& json) {
  WorkerConfig config;
  return ParseConfig(json, "w.json", config).ToString();
}

TEST(ConfigLoader, ErrorsNameFileAndField) {
  EXPECT_THAT(ParseError(R"({"page_sice": 32})"), HasSubstr("w.json"));
  EXPECT_THAT(ParseError(R"({"page_sice": 32})"), HasSubstr("page_sice"));
  EXPECT_THAT(ParseError(R"({"limits": {"max_kib": 1}})"), HasSubstr("max_kib"));
  EXPECT_THAT(ParseError(R"({"page_size": "many"})"), HasSubstr("page_size"));
  EXPECT_THAT(ParseError(R"({"role": "BOSS"})"), HasSubstr("role"));
}

TEST(ConfigLoader, RefusesWhatIsNotOneCleanDocument) {
  EXPECT_THAT(ParseError(R"({"page_size": 8, "page_size": 16})"), HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(ParseError(R"({"page_size": 8} {})"), HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(ParseError(""), HasSubstr("INVALID_ARGUMENT"));
}

TEST(ConfigLoader, AMissingFileIsNamed) {
  WorkerConfig config;
  const absl::Status status = LoadConfigFile("/nonexistent/worker.json", config);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.ToString(), HasSubstr("/nonexistent/worker.json"));
}

TEST(ConfigLoader, ReadsAFile) {
  const std::string path = ::testing::TempDir() + "/config_loader_test.json";
  std::ofstream(path) << R"({"name": "w1"})";
  WorkerConfig config;
  ASSERT_TRUE(LoadConfigFile(path, config).ok());
  EXPECT_EQ(config.name(), "w1");
}

TEST(Overrides, SetFieldsOfEveryKind) {
  WorkerConfig config;
  for (const char* assignment :
       {"name=w=1", "page_size=64", "weight_dtype=F32", "ngram=true", "limits.max_request_kib=7",
        "proposal_deadline_ms=2.5", "coordinators=a:1,b:2"}) {
    EXPECT_TRUE(ApplyOverride(assignment, config).ok()) << assignment;
  }
  EXPECT_EQ(config.name(), "w=1");
  EXPECT_EQ(config.page_size(), 64);
  EXPECT_EQ(config.weight_dtype(), WorkerConfig::F32);
  EXPECT_TRUE(config.ngram());
  EXPECT_EQ(config.limits().max_request_kib(), 7);
  EXPECT_EQ(config.proposal_deadline_ms(), 2.5);
  EXPECT_THAT(config.coordinators(), ::testing::ElementsAre("a:1", "b:2"));
  EXPECT_TRUE(ApplyOverride("coordinators=c:3", config).ok());
  EXPECT_THAT(config.coordinators(), ::testing::ElementsAre("c:3"));
}

TEST(Overrides, ErrorsNameFieldValueAndWhatWasExpected) {
  WorkerConfig config;
  EXPECT_THAT(ApplyOverride("page_sice=1", config).ToString(), HasSubstr("page_sice"));
  EXPECT_THAT(ApplyOverride("page_size=x", config).ToString(),
              ::testing::AllOf(HasSubstr("page_size"), HasSubstr("\"x\""), HasSubstr("integer")));
  EXPECT_THAT(ApplyOverride("weight_dtype=F8", config).ToString(), HasSubstr("BF16, F32"));
  EXPECT_THAT(ApplyOverride("limits=1", config).ToString(), HasSubstr("limits"));
  EXPECT_THAT(ApplyOverride("name.x=1", config).ToString(), HasSubstr("name"));
  EXPECT_THAT(ApplyOverride("name", config).ToString(), HasSubstr("field=value"));
}

}  // namespace
}  // namespace krait
