#include "worker/server/memory_plan.h"

#include <gtest/gtest.h>

#include "common/field_error.h"
#include "common/machine_memory.h"
#include "tests/support/hybrid_checkpoint.h"
#include "worker/runner/rank_group.h"
#include "worker/server/group_options.h"

namespace krait {
namespace {

using testing::HybridOptions;

constexpr int64_t kPlenty = int64_t{1} << 40;

class MemoryPlanTest : public ::testing::Test {
 protected:
  void Open(const std::string& mixers) {
    HybridOptions hybrid{.mixers = mixers};
    hybrid.base.max_context_tokens = 64;
    dir_ = ::testing::TempDir() + "memory_plan_" + mixers;
    ASSERT_TRUE(WriteHybridFolder(MakeHybridModel(hybrid), hybrid, dir_).ok());
    auto checkpoint = Checkpoint::Open(dir_);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_.emplace(*std::move(checkpoint));
    config_ = *ModelConfig::Load(*checkpoint_);
    options_.model_path = dir_;
    options_.weight_dtype = DType::kF32;
    options_.max_running = 8;
    options_.state_slots = 8;
  }

  absl::StatusOr<MemoryPlan> Plan(int64_t memory_bytes) {
    return PlanMemory(options_, *checkpoint_, config_, memory_bytes);
  }

  // What the plan takes once it is there.
  MemoryUse Use() {
    const auto group = RankGroup::Create(MakeRankGroupOptions(options_, *Plan(kPlenty)));
    EXPECT_TRUE(group.ok()) << group.status();
    return (*group)->memory();
  }

  std::string dir_;
  std::optional<Checkpoint> checkpoint_;
  ModelConfig config_;
  WorkerOptions options_;
};

TEST_F(MemoryPlanTest, SlotsAreThoseAskedForAndNoneWithoutRecurrentLayers) {
  Open("2A1A");
  options_.state_slots = 5;
  EXPECT_EQ(Plan(kPlenty)->num_state_slots, 5);
  Open("AAAA");
  EXPECT_EQ(Plan(kPlenty)->num_state_slots, 0);
}

TEST_F(MemoryPlanTest, OnlyLayersOfAttentionCostPages) {
  Open("AAAA");
  options_.kv_cache_mib = 1;
  options_.max_running = options_.max_num_batched_tokens = 4096;
  const int64_t layer_bytes = int64_t{2} * 3 * 8 * options_.page_size * 4;
  EXPECT_EQ(Plan(kPlenty)->num_pages, (1 << 20) / (4 * layer_bytes));
  Open("2A22");
  options_.max_running = options_.max_num_batched_tokens = 4096;
  EXPECT_EQ(Plan(kPlenty)->num_pages, (1 << 20) / layer_bytes);
  Open("2222");
  EXPECT_EQ(Plan(kPlenty)->num_pages, 8 * 4) << "pages only count tokens";
}

// The error comes at exactly the number of slots that no longer fits, and names it.
TEST_F(MemoryPlanTest, MoreSlotsThanFitAreRefusedByNameAndLimit) {
  Open("2A1A");
  const MemoryUse use = Use();
  EXPECT_EQ(use.num_state_slots, 8);
  EXPECT_GT(use.state_bytes, 0);
  EXPECT_GT(use.ring_bytes, 0);
  const int64_t slot = (use.state_bytes + use.ring_bytes) / 8;
  int64_t elements = 0;
  for (const auto& [name, tensor] : checkpoint_->tensors()) elements += tensor.num_elements();
  const int64_t rest = elements * 4 + use.kv_bytes;
  EXPECT_TRUE(Plan(rest + 8 * slot).ok());
  const absl::Status status = Plan(rest + 8 * slot - 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorField(status), "state_slots") << status;
  EXPECT_NE(status.message().find("must be at most 7, got 8"), std::string::npos) << status;
}

TEST_F(MemoryPlanTest, PagesAndWeightsThatDoNotFitAreRefusedByName) {
  Open("2A1A");
  const MemoryUse use = Use();
  int64_t elements = 0;
  for (const auto& [name, tensor] : checkpoint_->tensors()) elements += tensor.num_elements();
  EXPECT_EQ(ErrorField(Plan(elements * 4 + use.kv_bytes - 1).status()), "kv_cache_mib");
  EXPECT_EQ(ErrorField(Plan(elements * 4 - 1).status()), "model_path");
}

// Two processes of one rank each: the first has one of three KV groups.
TEST_F(MemoryPlanTest, AProcessCountsItsOwnRanks) {
  Open("2A1A");
  options_.tensor_parallel_size = options_.threads = 2;
  const MemoryUse both = Use();
  options_.processes = 2;
  int64_t elements = 0;
  for (const auto& [name, tensor] : checkpoint_->tensors()) elements += tensor.num_elements();
  const int64_t caches = both.kv_bytes + both.state_bytes + both.ring_bytes;
  const int64_t own = elements / 2 * 4 + caches / 3;
  EXPECT_TRUE(Plan(own).ok()) << Plan(own).status();
  EXPECT_EQ(ErrorField(Plan(own - 1).status()), "state_slots");
  options_.process_index = 1;
  EXPECT_FALSE(Plan(own).ok()) << "two groups";
}

TEST(MachineMemoryTest, AMachineHasSome) { EXPECT_GT(MachineMemoryBytes(), 1 << 20); }

}  // namespace
}  // namespace krait
