// The examples under deploy/config are what operators copy: they must fit the schema.

#include <gtest/gtest.h>

#include "common/config_loader.h"
#include "krait/config.pb.h"

namespace krait {
namespace {

TEST(ExampleConfigs, ClusterFitsTheSchema) {
  ClusterConfig config;
  const absl::Status status = LoadConfigFile("deploy/config/cluster.json", config);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(config.workers_size(), 2);
  EXPECT_EQ(config.workers(0).role(), WorkerConfig::TARGET);
  EXPECT_EQ(config.workers(1).role(), WorkerConfig::DRAFT);
}

TEST(ExampleConfigs, CoordinatorAndWorkersFitTheSchemaAndEachOther) {
  CoordinatorConfig coordinator;
  WorkerConfig target, draft;
  absl::Status status = LoadConfigFile("deploy/config/coordinator.json", coordinator);
  ASSERT_TRUE(status.ok()) << status;
  status = LoadConfigFile("deploy/config/worker-target.json", target);
  ASSERT_TRUE(status.ok()) << status;
  status = LoadConfigFile("deploy/config/worker-draft.json", draft);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(target.coordinators(0), coordinator.listen());
  EXPECT_EQ(draft.coordinators(0), coordinator.listen());
  EXPECT_EQ(target.draft_address(), draft.listen());
  EXPECT_EQ(target.model_name(), coordinator.model_name());
}

}  // namespace
}  // namespace krait
