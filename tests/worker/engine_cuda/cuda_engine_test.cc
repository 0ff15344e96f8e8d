// The engine on a GPU: every way to come to a generation gives its tokens, and nothing is left
// behind.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/counting_observer.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/random_tokens.h"
#include "tests/support/sink_log.h"
#include "tests/support/spoiling_proposer.h"
#include "worker/engine/engine.h"
#include "worker/speculative/draft_model_proposer.h"

namespace krait::testing {
namespace {

constexpr int kNumPrompts = 200, kMaxTokens = 32;

struct Prompt {
  std::vector<TokenId> tokens;
  SamplingParams sampling;
};
using Outputs = std::vector<std::vector<TokenId>>;

class CudaEngineTest : public ::testing::TestWithParam<const char*> {
 protected:
  CudaEngineTest() : folder_(absl::StrCat(::testing::TempDir(), "/cuda_engine_", GetParam())) {
    const HybridOptions options{.mixers = GetParam(), .base = {.head_dim = HeadDim(), .seed = 41}};
    EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, folder_).ok());
  }

  // Attention has two kernels: heads of 64 go through tensor cores.
  static int64_t HeadDim() { return std::string(GetParam()) == "1A1A" ? 8 : 64; }

  EngineConfig Config() const {
    EngineConfig config;
    config.group.model_path = folder_;
    config.group.device = {DeviceKind::kCuda, 0};
    config.group.runner.weight_dtype = DType::kBF16;
    config.group.runner.num_pages = 1500;
    config.max_running = 64;
    config.max_waiting = 10000;
    config.max_num_batched_tokens = 512;
    config.fixed_draft_tokens = true;
    config.proposal_deadline = absl::Seconds(20);
    return config;
  }
  std::unique_ptr<Engine> Make(const EngineConfig& config,
                               std::unique_ptr<Proposer> proposer = nullptr) {
    observer_.Reset();
    auto engine = Engine::Create(config, std::move(proposer), &clock_, &observer_, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  // Greedy, seeded, with a limit on z, with lists of candidates, with penalties.
  static SamplingParams Sampling(int i) {
    const auto seed = static_cast<uint64_t>(1000 + i);
    switch (i % 6) {
      case 0:
      case 1:
        return {.temperature = 0};
      case 2:
        return {.temperature = 1, .seed = seed};
      case 3:
        return {.temperature = 0.9f, .min_p = 0.05f, .seed = seed};
      case 4:
        return {.temperature = 0.8f, .top_k = 40, .top_p = 0.9f, .seed = seed};
      default:
        return {.temperature = 0.7f, .repetition_penalty = 1.2f, .seed = seed};
    }
  }
  static std::vector<Prompt> Prompts() {
    std::vector<Prompt> prompts;
    for (int i = 0; i < kNumPrompts; ++i) {
      prompts.push_back({RandomTokens(1 + (i * 37) % 150, 512, i), Sampling(i)});
    }
    return prompts;
  }

  static std::shared_ptr<SinkLog> Submit(Engine& engine, const std::string& id,
                                         const Prompt& prompt, int max_tokens = kMaxTokens) {
    GenerationRequest request{.request_id = id, .prompt = prompt.tokens};
    request.sampling = prompt.sampling;
    request.stop.max_tokens = max_tokens;
    auto sink = std::make_shared<SinkLog>();
    EXPECT_TRUE(engine.Submit(std::move(request), sink).ok());
    return sink;
  }
  static std::vector<TokenId> Await(SinkLog& sink) {
    sink.ended.WaitForNotification();
    EXPECT_TRUE(sink.status.ok()) << sink.status;
    return sink.token_ids;
  }

  // One after the other, each step finished before the next, prompts whole.
  Outputs Alone() {
    EngineConfig config = Config();
    config.group.runs_ahead = false;
    auto engine = Make(config);
    Outputs outputs;
    for (const Prompt& prompt : Prompts())
      outputs.push_back(Await(*Submit(*engine, "one", prompt)));
    EXPECT_EQ(observer_.counts().steps_ahead, 0);
    return outputs;
  }
  // All of them in random order, with neighbours of other lengths that come and go.
  static Outputs Together(Engine& engine) {
    const std::vector<Prompt> prompts = Prompts();
    std::vector<int> order(kNumPrompts);
    for (int i = 0; i < kNumPrompts; ++i) order[i] = i;
    std::mt19937 random(8);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<std::shared_ptr<SinkLog>> sinks(kNumPrompts), neighbours;
    for (const int i : order) {
      sinks[i] = Submit(engine, absl::StrCat(i), prompts[i]);
      if (random() % 4 != 0) continue;
      const Prompt other{RandomTokens(1 + random() % 100, 512, random()),
                         Sampling(static_cast<int>(random() % 6))};
      neighbours.push_back(Submit(engine, absl::StrCat("n", i), other, 1 + random() % 40));
      if (random() % 3 == 0) engine.Abort(absl::StrCat("n", i), absl::CancelledError("left"));
    }
    Outputs outputs;
    for (const auto& sink : sinks) outputs.push_back(Await(*sink));
    EXPECT_TRUE(engine.WaitIdle(absl::InfiniteDuration()));
    EXPECT_EQ(engine.Load().pages_used, 0);
    return outputs;
  }
  std::unique_ptr<Proposer> Oracle(const Outputs& outputs, bool spoiled) const {
    Outputs whole;
    const std::vector<Prompt> prompts = Prompts();
    for (int i = 0; i < kNumPrompts; ++i) {
      whole.push_back(prompts[i].tokens);
      whole.back().insert(whole.back().end(), outputs[i].begin(), outputs[i].end());
    }
    return std::make_unique<SpoilingProposer>(std::move(whole), spoiled);
  }

  const std::string folder_;
  RealClock clock_;
  CountingObserver observer_;
};
INSTANTIATE_TEST_SUITE_P(Mixers, CudaEngineTest, ::testing::Values("AAAA", "2A2A", "1A1A"),
                         [](const auto& info) { return absl::StrCat("x", info.param); });

TEST_P(CudaEngineTest, EveryWayToRunAPromptDrawsItsTokens) {
  const Outputs alone = Alone();
  EXPECT_GT(std::set(alone.begin(), alone.end()).size(), 150u) << "or the equalities say little";

  EXPECT_EQ(Together(*Make(Config())), alone) << "64 at a time, steps overlapping";

  EngineConfig chunked = Config();
  chunked.max_running = 13;
  chunked.max_num_batched_tokens = 29;
  EXPECT_EQ(Together(*Make(chunked)), alone) << "prompts in chunks";

  // Sequences grow by a third of what they are admitted with, so a quarter of them lose their
  // pages.
  EngineConfig scarce = Config();
  scarce.group.runner.num_pages = 60;
  scarce.reserved_output_tokens = 1;
  EXPECT_EQ(Together(*Make(scarce)), alone) << "preempted";
  EXPECT_GE(observer_.counts().preemptions, 40);

  for (const int k : {1, 4, 7}) {
    EngineConfig config = Config();
    config.max_draft_tokens = k;
    EXPECT_EQ(Together(*Make(config, Oracle(alone, true))), alone) << "some drafts wrong, K=" << k;
    EXPECT_GT(observer_.counts().accepted_tokens, 200);
    EXPECT_LT(observer_.counts().accepted_tokens, observer_.counts().draft_tokens);
  }
  EngineConfig verifying = Config();
  verifying.max_running = 8;
  verifying.max_draft_tokens = 7;
  EXPECT_EQ(Together(*Make(verifying, Oracle(alone, false))), alone) << "8 x 8 rows";
}

// The target as its own draft, a pass after the other without the host: a row has the same bits in
// either, so every draft is right.
TEST_P(CudaEngineTest, ADraftOnTheDeviceIsRight) {
  std::vector<Prompt> prompts = Prompts();
  for (int i = 0; i < kNumPrompts; ++i) prompts[i].sampling = Sampling(i % 5);  // not on the host
  const auto run = [&](Engine& engine) {
    std::vector<std::shared_ptr<SinkLog>> sinks;
    for (int i = 0; i < kNumPrompts; ++i) {
      sinks.push_back(Submit(engine, absl::StrCat(i), prompts[i]));
    }
    Outputs outputs;
    for (const auto& sink : sinks) outputs.push_back(Await(*sink));
    EXPECT_TRUE(engine.WaitIdle(absl::InfiniteDuration()));
    return outputs;
  };
  EngineConfig config = Config();
  config.max_running = 8;
  const Outputs plain = run(*Make(config));
  config.max_draft_tokens = 5;
  const DraftModelOptions options{.model_path = folder_, .device = config.group.device};
  auto proposer = DraftModelProposer::Create(options, &clock_);
  ASSERT_TRUE(proposer.ok()) << proposer.status();
  const DraftModelProposer& draft = **proposer;
  auto engine = Make(config, *std::move(proposer));
  EXPECT_EQ(run(*engine), plain);
  EXPECT_GT(draft.num_chained_passes(), 100);
  const EngineCounts counts = observer_.counts();
  EXPECT_GT(counts.draft_tokens, 2000);
  EXPECT_EQ(counts.accepted_tokens, counts.draft_tokens);
}

// Those that draw on their own, so that steps do overlap; every other one may end at any token.
TEST_P(CudaEngineTest, StepsThatRunAheadDrawTheSame) {
  std::vector<std::vector<TokenId>> outputs[2];
  for (const bool ahead : {false, true}) {
    EngineConfig config = Config();
    config.group.runs_ahead = ahead;
    auto engine = Make(config);
    std::vector<std::shared_ptr<SinkLog>> sinks;
    for (int i = 0; i < kNumPrompts; ++i) {
      GenerationRequest request{.request_id = absl::StrCat(i),
                                .prompt = RandomTokens(1 + i % 60, 512, i)};
      request.sampling = Sampling(i % 4);
      request.stop.max_tokens = kMaxTokens;
      for (TokenId id = i % 2; id < 512 && i % 2 == 0; id += 16) {
        request.stop.stop_token_ids.push_back(id);
      }
      sinks.push_back(std::make_shared<SinkLog>());
      ASSERT_TRUE(engine->Submit(std::move(request), sinks.back()).ok());
    }
    for (const auto& sink : sinks) outputs[ahead].push_back(Await(*sink));
    EXPECT_TRUE(engine->WaitIdle(absl::InfiniteDuration()));
    EXPECT_EQ(engine->Load().pages_used, 0);
    EXPECT_EQ(observer_.counts().steps_ahead > 50, ahead);
  }
  EXPECT_EQ(outputs[0], outputs[1]);
}

int64_t FreeDeviceBytes() {
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return static_cast<int64_t>(free);
}

int64_t ResidentBytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * 4096;
}

class CudaLeakTest : public CudaEngineTest {
 protected:
  // Short generations of every kind, some cut off.
  static void RunRequests(Engine& engine, int count) {
    constexpr int kAtATime = 1000;
    std::mt19937 random(3);
    for (int done = 0; done < count; done += kAtATime) {
      std::vector<std::shared_ptr<SinkLog>> sinks;
      for (int i = 0; i < kAtATime; ++i) {
        const Prompt prompt{RandomTokens(1 + random() % 24, 512, random()),
                            Sampling(i % 50 == 0 ? static_cast<int>(random() % 6) : i % 4)};
        const std::string id = absl::StrCat(done + i);
        sinks.push_back(Submit(engine, id, prompt, 1 + random() % 8));
        if (i % 40 == 0) engine.Abort(id, absl::CancelledError("left"));
      }
      for (const auto& sink : sinks) sink->ended.WaitForNotification();
    }
    EXPECT_TRUE(engine.WaitIdle(absl::InfiniteDuration()));
    EXPECT_EQ(engine.Load().pages_used, 0);
  }
};
INSTANTIATE_TEST_SUITE_P(Mixers, CudaLeakTest, ::testing::Values("2A2A"),
                         [](const auto& info) { return absl::StrCat("x", info.param); });

// What the first engine leaves (code on the device, arenas of the host's allocator) is the level.
TEST_P(CudaLeakTest, TenThousandRequestsLeaveMemoryWhereItWas) {
  constexpr int64_t kMiB = 1 << 20;
  RunRequests(*Make(Config()), 1000);
  const int64_t free = FreeDeviceBytes(), resident = ResidentBytes();
  {
    auto engine = Make(Config());
    RunRequests(*engine, 2000);
    const int64_t live_free = FreeDeviceBytes(), live_resident = ResidentBytes();
    RunRequests(*engine, 10000);
    std::printf("while it runs: device %+.1f MiB, host %+.1f MiB\n",
                static_cast<double>(live_free - FreeDeviceBytes()) / kMiB,
                static_cast<double>(ResidentBytes() - live_resident) / kMiB);
    EXPECT_GE(FreeDeviceBytes(), live_free - 64 * kMiB);
    EXPECT_LE(ResidentBytes(), live_resident + 64 * kMiB);
  }
  std::printf("after it: device %+.1f MiB, host %+.1f MiB\n",
              static_cast<double>(free - FreeDeviceBytes()) / kMiB,
              static_cast<double>(ResidentBytes() - resident) / kMiB);
  EXPECT_GE(FreeDeviceBytes(), free - 4 * kMiB);
  EXPECT_LE(ResidentBytes(), resident + 32 * kMiB);
}

TEST_P(CudaLeakTest, NoMemoryAtStartIsOneLine) {
  EngineConfig config = Config();
  config.group.runner.num_pages = 1 << 30;
  const int64_t free = FreeDeviceBytes();
  const auto engine = Engine::Create(config, nullptr, &clock_, &observer_, nullptr);
  ASSERT_EQ(engine.status().code(), absl::StatusCode::kResourceExhausted) << engine.status();
  const std::string message(engine.status().message());
  std::printf("%s\n", message.c_str());
  EXPECT_TRUE(absl::StrContains(message, "bytes are free"));
  EXPECT_FALSE(absl::StrContains(message, "\n"));
  EXPECT_GE(FreeDeviceBytes(), free - (4 << 20)) << "what had been taken is given back";
}

}  // namespace
}  // namespace krait::testing
