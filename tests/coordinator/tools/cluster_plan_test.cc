#include "coordinator/tools/cluster_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace krait {
namespace {

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
  absl::Status Complete() {
    return CompleteClusterConfig(config_, [this] { return next_port_++; });
  }

  ClusterConfig config_;
  int next_port_ = 7000;
};

TEST_F(ClusterPlanTest, WiresTargetsToCoordinatorAndDraft) {
  Add(WorkerConfig::TARGET);
  Add(WorkerConfig::DRAFT);
  ASSERT_TRUE(Complete().ok());
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
  ASSERT_TRUE(Complete().ok());
  EXPECT_EQ(config_.coordinator().listen(), "127.0.0.1:5000");
  EXPECT_THAT(config_.workers(0).listen(), ::testing::MatchesRegex("0\\.0\\.0\\.0:7[0-9]+"));
  EXPECT_EQ(config_.workers(0).draft_address(), "");  // it has n-gram lookup
}

TEST_F(ClusterPlanTest, RefusesWhatCannotServe) {
  EXPECT_THAT(std::string(Complete().message()), HasSubstr("TARGET"));
  Add(WorkerConfig::TARGET).set_name("same");
  Add(WorkerConfig::TARGET).set_name("same");
  EXPECT_THAT(std::string(Complete().message()), HasSubstr("same"));
  config_.mutable_coordinator()->clear_model_path();
  EXPECT_THAT(std::string(Complete().message()), HasSubstr("coordinator.model_path"));
}

}  // namespace
}  // namespace krait
