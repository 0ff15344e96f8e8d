#include "worker/server/memory_plan.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/machine_memory.h"
#include "tests/support/hybrid_checkpoint.h"
#include "worker/runner/rank_group.h"
#include "worker/server/group_options.h"
#include "worker/speculative/draft_model.h"

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

  static int64_t Elements(const std::string& dir) {
    const auto checkpoint = Checkpoint::Open(dir);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    int64_t elements = 0;
    for (const auto& [name, tensor] : checkpoint->tensors()) elements += tensor.num_elements();
    return elements;
  }

  // The least memory that the plan fits into.
  int64_t Smallest() {
    int64_t low = 0, high = kPlenty;  // too little, enough
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (Plan(middle).ok() ? high : low) = middle;
    }
    return high;
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
  const int64_t elements = Elements(dir_);
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
  const int64_t elements = Elements(dir_);
  EXPECT_EQ(ErrorField(Plan(elements * 4 + use.kv_bytes - 1).status()), "kv_cache_mib");
  EXPECT_EQ(ErrorField(Plan(elements * 4 - 1).status()), "model_path");
}

// Two processes of one rank each: the first has one of three KV groups.
TEST_F(MemoryPlanTest, AProcessCountsItsOwnRanks) {
  Open("2A1A");
  options_.tensor_parallel_size = options_.threads = 2;
  const MemoryUse both = Use();
  options_.processes = 2;
  const int64_t elements = Elements(dir_);
  const int64_t caches = both.kv_bytes + both.state_bytes + both.ring_bytes;
  const int64_t own = elements / 2 * 4 + caches / 3;
  EXPECT_TRUE(Plan(own).ok()) << Plan(own).status();
  EXPECT_EQ(ErrorField(Plan(own - 1).status()), "state_slots");
  options_.process_index = 1;
  EXPECT_FALSE(Plan(own).ok()) << "two groups";
}

// A draft in the target's process counts before the target's pages and slots, with exactly what it
// will take.
TEST_F(MemoryPlanTest, ADraftInTheProcessIsPlannedWithItsWeightsPagesAndSlots) {
  Open("2A1A");
  const std::string draft = dir_;
  Open("12A2");
  const MemoryUse own = Use();
  options_.max_running = 6;
  options_.draft_source = DraftSource::kModel;
  options_.draft_model_path = draft;
  const auto plan = Plan(kPlenty);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->draft.num_pages, 6 * 64 / options_.page_size);
  EXPECT_EQ(plan->draft.num_state_slots, 6);

  DraftModelOptions model_options{.model_path = draft, .max_sequences = options_.max_running};
  model_options.runner.weight_dtype = options_.weight_dtype;
  model_options.runner.page_size = options_.page_size;
  model_options.runner.num_pages = plan->draft.num_pages;
  model_options.runner.num_state_slots = plan->draft.num_state_slots;
  const auto model = DraftModel::Load(model_options);
  ASSERT_TRUE(model.ok()) << model.status();
  const MemoryUse use = (*model)->runner().memory();
  const int64_t draft_bytes = Elements(draft) * 4 + use.kv_bytes + use.state_bytes + use.ring_bytes;
  EXPECT_GT(use.state_bytes, 0);
  EXPECT_GT(use.kv_bytes, 0);

  const int64_t weights = Elements(dir_) * 4;
  EXPECT_EQ(ErrorField(Plan(weights + draft_bytes - 1).status()), "draft_model_path");
  EXPECT_EQ(ErrorField(Plan(weights + draft_bytes).status()), "kv_cache_mib");
  const int64_t kv_bytes = own.kv_bytes / 8 * 6;
  EXPECT_EQ(ErrorField(Plan(weights + draft_bytes + kv_bytes - 1).status()), "kv_cache_mib");
  const int64_t whole = weights + draft_bytes + kv_bytes + own.state_bytes + own.ring_bytes;
  const absl::Status status = Plan(whole - 1).status();
  EXPECT_EQ(ErrorField(status), "state_slots");
  EXPECT_NE(status.message().find(absl::StrCat(draft_bytes, " of a draft")), std::string::npos)
      << status;
  EXPECT_TRUE(Plan(whole).ok()) << Plan(whole).status();
}

TEST_F(MemoryPlanTest, OnlyTheProcessOfRank0HasTheDraft) {
  Open("2A1A");
  options_.tensor_parallel_size = options_.processes = options_.threads = 2;
  const int64_t rank_0 = Smallest();
  options_.process_index = 1;
  const int64_t rank_1 = Smallest();
  options_.draft_source = DraftSource::kModel;
  options_.draft_model_path = dir_;
  EXPECT_EQ(Smallest(), rank_1);
  options_.process_index = 0;
  EXPECT_GT(Smallest(), rank_0);
}

TEST_F(MemoryPlanTest, ADraftsPagesAreBoundedLikeTheTargets) {
  Open("AAAA");
  options_.kv_cache_mib = 1;
  options_.max_running = options_.max_num_batched_tokens = 4096;
  options_.draft_source = DraftSource::kModel;
  options_.draft_model_path = dir_;
  const auto plan = Plan(kPlenty);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->draft.num_pages, plan->num_pages);
  EXPECT_EQ(plan->draft.num_state_slots, 0);
}

TEST(MachineMemoryTest, AMachineHasSome) { EXPECT_GT(MachineMemoryBytes(), 1 << 20); }

}  // namespace
}  // namespace krait
