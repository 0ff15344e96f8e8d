// A hybrid's generation ends inside a run of accepted drafts: the tokens after its end are not its
// own, and the next request in the same slot sees nothing of them.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/counting_observer.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/random_tokens.h"
#include "tests/support/sink_log.h"
#include "worker/engine/engine.h"
#include "worker/speculative/draft_model_proposer.h"

namespace krait {
namespace {

constexpr int kTokens = 18, kDrafts = 6;

class HybridEndsTest : public ::testing::TestWithParam<std::string> {
 protected:
  HybridEndsTest() : dir_(absl::StrCat(::testing::TempDir(), "/hybrid_ends_", GetParam())) {
    const testing::HybridOptions options{.mixers = GetParam()};
    EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, dir_).ok());
    EngineConfig config;
    config.group.model_path = dir_;
    config.group.runner.weight_dtype = DType::kF32;
    config.group.runner.num_pages = 32;
    config.max_running = 2;
    config.num_state_slots = 1;
    config.max_draft_tokens = kDrafts;
    config.fixed_draft_tokens = true;
    config.proposal_deadline = absl::Seconds(20);  // a busy machine must not lose drafts
    DraftModelOptions draft{.model_path = dir_, .max_sequences = 2};
    draft.runner.weight_dtype = DType::kF32;
    draft.runner.num_pages = 32;
    auto proposer = DraftModelProposer::Create(draft, &clock_);
    EXPECT_TRUE(proposer.ok()) << proposer.status();
    auto engine = Engine::Create(config, *std::move(proposer), &clock_, &observer_, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    plain_ = Run({.max_tokens = kTokens}, 0)->token_ids;
    EXPECT_EQ(observer_.counts().accepted_tokens, 0);
  }

  std::shared_ptr<testing::SinkLog> Run(StopParams stop, std::optional<int> drafts = std::nullopt) {
    GenerationRequest request{.request_id = "one",
                              .prompt = testing::RandomTokens(29, 512, 4),
                              .stop = std::move(stop),
                              .max_draft_tokens = drafts};
    request.sampling = {.temperature = 0.8f, .seed = 6};
    auto sink = std::make_shared<testing::SinkLog>();
    EXPECT_TRUE(engine_->Submit(std::move(request), sink).ok());
    sink->ended.WaitForNotification();
    EXPECT_TRUE(sink->status.ok()) << sink->status;
    engine_->WaitIdle(absl::InfiniteDuration());
    EXPECT_EQ(engine_->Load().state_slots_used, 0);
    return sink;
  }
  // The only slot's next request.
  void ExpectTheNextIsUndisturbed() { EXPECT_EQ(Run({.max_tokens = kTokens})->token_ids, plain_); }
  std::vector<TokenId> First(int count) const { return {plain_.begin(), plain_.begin() + count}; }

  const std::string dir_;
  RealClock clock_;
  testing::CountingObserver observer_;
  std::unique_ptr<Engine> engine_;
  std::vector<TokenId> plain_;
};

TEST_P(HybridEndsTest, MaxTokensAnywhereInAnAcceptedRun) {
  for (int count = 1; count <= kTokens; ++count) {
    EXPECT_EQ(Run({.max_tokens = count})->token_ids, First(count));
    ExpectTheNextIsUndisturbed();
  }
  EXPECT_GT(observer_.counts().accepted_tokens, kTokens * kTokens / 2);
}

TEST_P(HybridEndsTest, AnEndOrStopTokenAnywhereInAnAcceptedRun) {
  int ended = 0;
  for (int i = 0; i < kTokens; ++i) {
    const auto same = std::find(plain_.begin(), plain_.end(), plain_[i]);
    if (same != plain_.begin() + i) continue;  // would end before
    StopParams stop{.max_tokens = kTokens};
    (i % 2 == 0 ? stop.eos_ids : stop.stop_token_ids) = {plain_[i]};
    EXPECT_EQ(Run(stop)->token_ids, First(i + 1)) << i;
    ExpectTheNextIsUndisturbed();
    ++ended;
  }
  EXPECT_GT(ended, kDrafts);
}

INSTANTIATE_TEST_SUITE_P(Mixers, HybridEndsTest, ::testing::Values("1A1", "2A2", "12A2"),
                         [](const auto& info) { return absl::StrCat("x", info.param); });

}  // namespace
}  // namespace krait
