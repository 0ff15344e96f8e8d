#include "coordinator/tools/cluster_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status_macros.h"
#include "tests/coordinator/tools/parse_words.h"

namespace krait {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ClusterPlanTest : public ::testing::Test {
 protected:
  ClusterPlanTest() { config_.mutable_coordinator()->set_model_path("/m/target.gguf"); }

  WorkerConfig& Add(WorkerConfig::Role role) {
    WorkerConfig& worker = *config_.add_workers();
    worker.set_role(role);
    if (role == WorkerConfig::DRAFT) worker.set_model_path("/m/draft");
    return worker;
  }
  absl::Status Wire() {
    return WireCluster([this](const std::string&) { return next_port_++; }, config_);
  }
  static absl::StatusOr<ClusterConfig> FromFlags(const std::vector<std::string>& words) {
    ClusterOptions options;
    RETURN_IF_ERROR(ParseWords(words, [&](CLI::App& app) { AddClusterOptions(app, options); }));
    return MakeClusterConfig(options);
  }

  ClusterConfig config_;
  int next_port_ = 7000;
};

TEST_F(ClusterPlanTest, WiresTargetsToCoordinatorAndDraft) {
  Add(WorkerConfig::TARGET);
  Add(WorkerConfig::DRAFT);
  ASSERT_TRUE(Wire().ok());
  EXPECT_EQ(config_.coordinator().listen(), "127.0.0.1:7000");
  EXPECT_EQ(config_.workers(0).name(), "target-0");
  EXPECT_EQ(config_.workers(1).name(), "draft-0");
  EXPECT_EQ(config_.workers(0).model_path(), "/m/target.gguf");
  EXPECT_THAT(config_.workers(0).coordinators(), ElementsAre("127.0.0.1:7000"));
  EXPECT_EQ(config_.workers(0).draft_address(), config_.workers(1).listen());
  EXPECT_EQ(config_.workers(1).draft_address(), "");
}

TEST_F(ClusterPlanTest, KeepsWhatIsGivenAndFillsOnlyThePort) {
  config_.mutable_coordinator()->set_listen("127.0.0.1:5000");
  WorkerConfig& target = Add(WorkerConfig::TARGET);
  target.set_listen("0.0.0.0:0");
  target.set_ngram(true);
  Add(WorkerConfig::DRAFT);
  ASSERT_TRUE(Wire().ok());
  EXPECT_EQ(config_.coordinator().listen(), "127.0.0.1:5000");
  EXPECT_THAT(config_.workers(0).listen(), ::testing::MatchesRegex("0\\.0\\.0\\.0:7[0-9]+"));
  EXPECT_EQ(config_.workers(0).draft_address(), "");  // it has n-gram lookup
}

TEST_F(ClusterPlanTest, WildcardListenersAreDialledOnLoopback) {
  config_.mutable_coordinator()->set_listen("0.0.0.0:5000");
  Add(WorkerConfig::TARGET);
  ASSERT_TRUE(Wire().ok());
  EXPECT_THAT(config_.workers(0).coordinators(), ElementsAre("127.0.0.1:5000"));
}

TEST_F(ClusterPlanTest, RefusesWhatCannotServe) {
  EXPECT_THAT(std::string(Wire().message()), HasSubstr("TARGET"));
  Add(WorkerConfig::TARGET).set_name("same");
  Add(WorkerConfig::TARGET).set_name("same");
  EXPECT_THAT(std::string(Wire().message()), HasSubstr("same"));
  config_.mutable_workers(1)->set_name("other");
  config_.mutable_coordinator()->clear_model_path();
  EXPECT_THAT(std::string(Wire().message()), HasSubstr("coordinator.model_path"));
  config_.mutable_workers(0)->set_model_path("/m/target.gguf");
  Add(WorkerConfig::DRAFT).clear_model_path();
  EXPECT_THAT(std::string(Wire().message()), HasSubstr("draft-0"));
}

TEST_F(ClusterPlanTest, FlagsMakeAWholeCluster) {
  const auto config =
      FromFlags({"--model", "/m/t", "--tp=3", "--draft-model", "/m/d", "--draft-tokens", "5",
                 "--weight-dtype", "f32", "--device", "cuda:1"});
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->workers_size(), 2);
  const WorkerConfig& target = config->workers(1);
  EXPECT_EQ(config->workers(0).role(), WorkerConfig::DRAFT);
  EXPECT_EQ(target.tensor_parallel_size(), 3);
  EXPECT_EQ(target.max_draft_tokens(), 5);
  EXPECT_TRUE(target.fixed_draft_tokens());
  EXPECT_EQ(target.weight_dtype(), WorkerConfig::F32);
  EXPECT_EQ(target.device(), "cuda:1");
  EXPECT_EQ(config->workers(0).device(), "cuda:1");  // the draft's
  EXPECT_EQ(config->coordinator().listen(), "127.0.0.1:50051");
}

TEST_F(ClusterPlanTest, BadFlagsAreNamed) {
  EXPECT_THAT(std::string(FromFlags({}).status().message()), HasSubstr("--model"));
  EXPECT_THAT(std::string(FromFlags({"--model", "x", "--modle", "y"}).status().message()),
              HasSubstr("--modle"));
  EXPECT_THAT(std::string(FromFlags({"--model", "x", "--tp", "two"}).status().message()),
              HasSubstr("--tp"));
  EXPECT_THAT(std::string(FromFlags({"--model", "x", "--tp", "65"}).status().message()),
              AllOf(HasSubstr("--tp"), HasSubstr("64")));
  EXPECT_THAT(std::string(FromFlags({"--model", "x", "--weight-dtype", "f8"}).status().message()),
              AllOf(HasSubstr("--weight-dtype"), HasSubstr("f8"), HasSubstr("bf16")));
  EXPECT_THAT(std::string(FromFlags({"--model", "x", "--draft-tokens", "x"}).status().message()),
              HasSubstr("max_draft_tokens"));
}

}  // namespace
}  // namespace krait
