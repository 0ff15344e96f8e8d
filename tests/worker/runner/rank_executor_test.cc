#include "worker/runner/rank_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>

#include "tests/support/executor_bench.h"
#include "tests/support/overflow_model.h"
#include "tests/support/random_tokens.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait::testing {
namespace {

constexpr TokenId kPoisonToken = 77;  // overflows in PoisonFolder()

std::string Write(const TinyModel& model, const std::string& name) {
  const std::string folder = ::testing::TempDir() + "/rank_executor_test_" + name;
  const absl::Status status = WriteTinyFolder(model, folder);
  EXPECT_TRUE(status.ok()) << status;
  return folder;
}

std::string PlainFolder() {
  static const std::string* const folder =
      new std::string(Write(MakeTinyModel({.num_layers = 3, .seed = 31}), "plain"));
  return *folder;
}

std::string PoisonFolder() {
  static const std::string* const folder = [] {
    TinyModel model = MakeTinyModel({.num_layers = 3, .seed = 32});
    PlantOverflow(kPoisonToken, model);
    return new std::string(Write(model, "poison"));
  }();
  return *folder;
}

SequenceStart Start(SequenceId id, int length, uint64_t seed, SamplingParams sampling) {
  return {.id = id, .prompt = RandomTokens(length, 512, seed), .sampling = sampling};
}

SamplingParams Greedy() { return {.temperature = 0}; }
SamplingParams Seeded(uint64_t seed) { return {.temperature = 0.8f, .top_p = 0.9f, .seed = seed}; }
// Drawn on the device by a rank that is alone.
SamplingParams Unfiltered() { return {.temperature = 0.9f, .min_p = 0.02f, .seed = 8}; }
SamplingParams Penalized() {
  return {.temperature = 0.9f,
          .repetition_penalty = 1.3f,
          .presence_penalty = 0.2f,
          .frequency_penalty = 0.6f,
          .seed = 5};
}

// Proposes the continuation that is known to come, with some tokens spoiled: every accepted length
// occurs.
Drafter SpoiledOracle(const std::vector<TokenId>& text, int k, uint64_t seed) {
  auto words = std::make_shared<std::mt19937_64>(seed);
  return [text, k, words](const std::vector<TokenId>& known) {
    std::vector<TokenId> drafts;
    for (size_t i = known.size(); i < text.size() && drafts.size() < static_cast<size_t>(k); ++i) {
      const bool spoiled = (*words)() % 5 == 0;
      drafts.push_back(spoiled ? static_cast<TokenId>((*words)() % 512) : text[i]);
    }
    return drafts;
  };
}

TEST(RankExecutorTest, EveryDegreeDrawsTheSameTokens) {
  for (const SamplingParams& sampling : {Greedy(), Seeded(1), Unfiltered(), Penalized()}) {
    std::vector<std::vector<TokenId>> generated;
    for (int num_ranks = 1; num_ranks <= 3; ++num_ranks) {
      ExecutorBench bench(PlainFolder(), num_ranks);
      generated.push_back(Generate(bench, Start(1, 30, 2, sampling), PageRange(0, 30), 40).tokens);
      EXPECT_EQ(bench.executor(0).num_sequences(), 0);
    }
    ASSERT_EQ(generated[0].size(), 40u);
    EXPECT_EQ(generated[1], generated[0]);
    EXPECT_EQ(generated[2], generated[0]);
  }
}

TEST(RankExecutorTest, SpeculationChangesNoToken) {
  for (const SamplingParams& sampling : {Greedy(), Seeded(3), Unfiltered(), Penalized()}) {
    ExecutorBench bench(PlainFolder(), sampling.min_p > 0 ? 1 : 2);
    const SequenceStart start = Start(1, 21, 4, sampling);
    const std::vector<TokenId> plain = Generate(bench, start, PageRange(0, 40), 80).tokens;
    std::vector<TokenId> text = start.prompt;
    text.insert(text.end(), plain.begin(), plain.end());
    std::set<int> accepted_lengths;
    for (int k = 1; k <= 5; ++k) {
      const Generation speculative = Generate(bench, Start(10 + k, 21, 4, sampling),
                                              PageRange(40, 40), 80, SpoiledOracle(text, k, k));
      EXPECT_EQ(speculative.tokens, plain) << k;
      accepted_lengths.insert(speculative.accepted.begin(), speculative.accepted.end());
    }
    EXPECT_EQ(accepted_lengths, (std::set<int>{0, 1, 2, 3, 4, 5}));
  }
}

// Two tokens that would be drawn for ever, were each not penalized out of reach once it is output.
// Both stand in the prompt, which presence does not look at.
TEST(RankExecutorTest, PresenceLooksAtTheOutputFromItsFirstTokenOnAndAtDrafts) {
  constexpr TokenId kFirst = 9, kSecond = 7;
  SamplingParams sampling = Greedy();
  sampling.presence_penalty = 1000;
  sampling.logit_bias = {{kSecond, 300}, {kFirst, 600}};
  SequenceStart start = Start(1, 20, 2, sampling);
  start.prompt[3] = kFirst;
  start.prompt[4] = kSecond;
  ExecutorBench bench(PlainFolder(), 2);
  const std::vector<TokenId> plain = Generate(bench, start, PageRange(0, 20), 10).tokens;
  EXPECT_EQ(plain[0], kFirst);
  EXPECT_EQ(plain[1], kSecond);
  EXPECT_EQ(std::set<TokenId>(plain.begin(), plain.end()).size(), plain.size()) << "all distinct";

  start.id = 2;
  const Generation drafted =
      Generate(bench, start, PageRange(20, 20), 10, [&](const std::vector<TokenId>& known) {
        return known.size() == start.prompt.size() + 1 ? std::vector<TokenId>{kSecond, kSecond}
                                                       : std::vector<TokenId>{};
      });
  EXPECT_EQ(drafted.accepted, (std::vector<int>{1})) << "the row after the draft sees it";
  EXPECT_EQ(drafted.tokens, plain);
}

TEST(RankExecutorTest, ChunkedPrefillDrawsTheSameTokens) {
  ExecutorBench bench(PlainFolder(), 1);
  const auto generate = [&](SequenceId id, int chunk) {
    return Generate(bench, Start(id, 90, 6, Seeded(7)), PageRange(0, 40), 20, nullptr, chunk)
        .tokens;
  };
  const std::vector<TokenId> one_shot = generate(1, 1000);
  EXPECT_EQ(generate(2, 1), one_shot);
  EXPECT_EQ(generate(3, 37), one_shot);
}

// Runs `start`, which drew `text` undisturbed, is preempted with `num_drawn` of it and goes on.
std::vector<TokenId> GenerateTwice(ExecutorBench& bench, SequenceStart start, int num_drawn,
                                   int chunk, const std::vector<TokenId>& text) {
  std::vector<TokenId> drawn;
  const int prompt_tokens = static_cast<int>(start.prompt.size());
  int computed = 0;
  StepPlan plan;
  const SequenceId id = start.id;
  plan.starts.push_back(std::move(start));
  for (bool preempted = false; drawn.size() < text.size();) {
    if (!preempted && computed > 0 && static_cast<int>(drawn.size()) == num_drawn) {
      plan.preempts.push_back(id);
      preempted = true;
      computed = 0;
    }
    const bool prefill = computed < prompt_tokens;
    const int known = prefill ? prompt_tokens : prompt_tokens + static_cast<int>(drawn.size());
    plan.work.push_back(
        {.id = id,
         .path = prefill ? ComputePath::kPrefill : ComputePath::kDecode,
         .new_pages = computed == 0 ? PageRange(preempted ? 30 : 0, 30) : std::vector<PageId>(),
         .num_tokens = std::min(chunk, known - computed)});
    computed += plan.work[0].num_tokens;
    const StepResult result = bench.Step(std::exchange(plan, {}));
    const std::vector<TokenId>& ids = result.results[0].token_ids;
    drawn.insert(drawn.end(), ids.begin(), ids.end());
  }
  plan.ends = {id};
  bench.Step(std::move(plan));
  return drawn;
}

TEST(RankExecutorTest, APreemptedSequenceDrawsTheSameTokens) {
  for (const SamplingParams& sampling : {Greedy(), Seeded(3), Penalized()}) {
    ExecutorBench bench(PlainFolder(), 2);
    const std::vector<TokenId> text =
        Generate(bench, Start(1, 21, 4, sampling), PageRange(0, 30), 40).tokens;
    for (int chunk : {1, 7, 64}) {
      for (int num_drawn : {0, 1, 2, 33}) {
        EXPECT_EQ(
            GenerateTwice(bench, Start(10 + num_drawn, 21, 4, sampling), num_drawn, chunk, text),
            text)
            << "chunk=" << chunk << " drawn=" << num_drawn;
      }
      EXPECT_EQ(bench.executor(0).num_sequences(), 0);
    }
  }
}

TEST(RankExecutorTest, AChunkThatStopsShortDrawsNothing) {
  ExecutorBench bench(PlainFolder(), 1);
  StepPlan plan;
  plan.starts.push_back(Start(1, 10, 8, Greedy()));
  plan.work.push_back(
      {.id = 1, .path = ComputePath::kPrefill, .new_pages = PageRange(0, 3), .num_tokens = 9});
  const StepResult result = bench.Step(std::move(plan));
  ASSERT_EQ(result.results.size(), 1u);
  EXPECT_TRUE(result.results[0].token_ids.empty());
  EXPECT_TRUE(result.results[0].finite);
}

// Sequences that join, speculate, prefill and leave in shared passes draw what they draw alone.
TEST(RankExecutorTest, NeighboursDoNotChangeATokensDraw) {
  ExecutorBench bench(PlainFolder(), 2);
  constexpr int kSequences = 4, kTokens = 24;
  std::vector<std::vector<TokenId>> alone, text;
  for (int s = 0; s < kSequences; ++s) {
    const SequenceStart start = Start(100 + s, 10 + 9 * s, s, Seeded(s));
    alone.push_back(Generate(bench, start, PageRange(0, 30), kTokens).tokens);
    text.push_back(start.prompt);
    text.back().insert(text.back().end(), alone.back().begin(), alone.back().end());
  }
  std::vector<std::vector<TokenId>> known(kSequences);
  std::vector<int> computed(kSequences), drawn(kSequences);
  std::mt19937_64 words(9);
  int mixed_steps = 0;
  const auto unfinished = [&](int s) { return drawn[s] < kTokens; };
  while (std::any_of(drawn.begin(), drawn.end(), [](int count) { return count < kTokens; })) {
    StepPlan plan;
    bool prefill = false, drafts = false, plain = false;
    std::vector<int> owners;
    for (int s = 0; s < kSequences; ++s) {
      if (!unfinished(s) || words() % 3 == 0) continue;
      SequenceWork work{.id = s};
      if (known[s].empty()) {
        plan.starts.push_back(Start(s, 10 + 9 * s, s, Seeded(s)));
        known[s] = plan.starts.back().prompt;
        work.new_pages = PageRange(30 * s, 30);
      }
      const int left = static_cast<int>(known[s].size()) - computed[s];
      work.num_tokens = std::min<int>(left, 1 + words() % 5);
      work.path = drawn[s] == 0 ? ComputePath::kPrefill : ComputePath::kDecode;
      if (drawn[s] > 0) {
        work.draft_token_ids = SpoiledOracle(text[s], words() % 4, words())(known[s]);
      }
      prefill |= left > 1;
      drafts |= !work.draft_token_ids.empty();
      plain |= left == 1 && work.draft_token_ids.empty();
      computed[s] += work.num_tokens;
      owners.push_back(s);
      plan.work.push_back(std::move(work));
    }
    if (plan.work.empty()) continue;
    mixed_steps += prefill && drafts && plain;
    const StepResult result = bench.Step(std::move(plan));
    ASSERT_EQ(result.results.size(), owners.size());
    for (size_t i = 0; i < owners.size(); ++i) {
      const SequenceResult& row = result.results[i];
      known[owners[i]].insert(known[owners[i]].end(), row.token_ids.begin(), row.token_ids.end());
      computed[owners[i]] += row.num_accepted;
      drawn[owners[i]] += static_cast<int>(row.token_ids.size());
    }
  }
  for (int s = 0; s < kSequences; ++s) {
    known[s].resize(text[s].size());
    EXPECT_EQ(known[s], text[s]) << s;
  }
  EXPECT_GT(mixed_steps, 0);
}

TEST(RankExecutorTest, ANonFiniteRowEndsItsSequenceAndLeavesNeighboursAlone) {
  ExecutorBench bench(PoisonFolder(), 2);
  const std::vector<TokenId> expected =
      Generate(bench, Start(1, 12, 10, Greedy()), PageRange(0, 8), 2).tokens;
  StepPlan plan;
  plan.starts.push_back(Start(2, 12, 10, Greedy()));
  plan.starts.push_back(Start(3, 12, 11, Greedy()));
  plan.starts.back().prompt.back() = kPoisonToken;
  plan.work.push_back(
      {.id = 3, .path = ComputePath::kPrefill, .new_pages = PageRange(8, 8), .num_tokens = 12});
  plan.work.push_back(
      {.id = 2, .path = ComputePath::kPrefill, .new_pages = PageRange(0, 8), .num_tokens = 12});
  const StepResult result = bench.Step(std::move(plan));
  EXPECT_FALSE(result.results[0].finite);
  EXPECT_TRUE(result.results[0].token_ids.empty());
  EXPECT_TRUE(result.results[1].finite);
  EXPECT_THAT(result.results[1].token_ids, ::testing::ElementsAre(expected[0]));
  // It may only end; its pages then serve another without a trace.
  StepPlan next;
  next.ends = {3};
  next.starts.push_back(Start(4, 12, 10, Greedy()));
  next.work.push_back(
      {.id = 4, .path = ComputePath::kPrefill, .new_pages = PageRange(8, 8), .num_tokens = 12});
  next.work.push_back({.id = 2, .num_tokens = 1});
  const StepResult after = bench.Step(std::move(next));
  EXPECT_THAT(after.results[0].token_ids, ::testing::ElementsAre(expected[0]));
  EXPECT_THAT(after.results[1].token_ids, ::testing::ElementsAre(expected[1]));
}

TEST(RankExecutorTest, WorkAfterANonFiniteRowIsRefused) {
  ExecutorBench bench(PoisonFolder(), 1);
  StepPlan plan;
  plan.starts.push_back({.id = 1, .prompt = {kPoisonToken}, .sampling = Greedy()});
  plan.work.push_back(
      {.id = 1, .path = ComputePath::kPrefill, .new_pages = PageRange(0, 2), .num_tokens = 1});
  EXPECT_FALSE(bench.Step(std::move(plan)).results[0].finite);
  StepPlan next;
  next.work.push_back({.id = 1, .num_tokens = 1});
  EXPECT_EQ(bench.TryStep(std::move(next)).status().code(), absl::StatusCode::kInternal);
}

// A draft that would break its row is as good as any other wrong draft.
TEST(RankExecutorTest, ANonFiniteDraftRowOnlyEndsTheRound) {
  ExecutorBench bench(PoisonFolder(), 1);
  const SequenceStart start = Start(1, 12, 10, Greedy());
  const std::vector<TokenId> plain = Generate(bench, start, PageRange(0, 20), 20).tokens;
  const Drafter drafter = [](const std::vector<TokenId>&) {
    return std::vector<TokenId>{kPoisonToken, 1};
  };
  EXPECT_EQ(Generate(bench, Start(2, 12, 10, Greedy()), PageRange(20, 20), 20, drafter).tokens,
            plain);
}

TEST(RankExecutorTest, LogprobsComeWithEveryTokenThatAsksForThem) {
  ExecutorBench bench(PlainFolder(), 2);
  SamplingParams sampling = Greedy();
  sampling.num_logprobs = 2;
  StepPlan plan;
  plan.starts.push_back(Start(1, 12, 12, sampling));
  plan.work.push_back(
      {.id = 1, .path = ComputePath::kPrefill, .new_pages = PageRange(0, 8), .num_tokens = 12});
  const StepResult result = bench.Step(std::move(plan));
  ASSERT_EQ(result.results[0].logprobs.size(), 1u);
  EXPECT_EQ(result.results[0].logprobs[0].token.id, result.results[0].token_ids[0]);
  EXPECT_EQ(result.results[0].logprobs[0].top.size(), 2u);
}

// Plans that contradict what the ranks know; each must be refused, with the reason.
struct BadPlan {
  const char* reason;
  std::function<void(StepPlan&)> spoil;
};

TEST(RankExecutorTest, PlansThatContradictTheTableAreInternalErrors) {
  const BadPlan bad_plans[] = {
      {"unknown", [](StepPlan& plan) { plan.work[0].id = 8; }},
      {"ends but is unknown", [](StepPlan& plan) { plan.ends = {8}; }},
      {"starts twice", [](StepPlan& plan) { plan.starts.push_back(plan.starts[0]); }},
      {"without a prompt", [](StepPlan& plan) { plan.starts[0].prompt.clear(); }},
      {"names token 512", [](StepPlan& plan) { plan.starts[0].prompt[3] = 512; }},
      {"names token -1", [](StepPlan& plan) { plan.work[0].draft_token_ids = {-1}; }},
      {"runs 11 of 10", [](StepPlan& plan) { plan.work[0].num_tokens = 11; }},
      {"runs 0 of 10", [](StepPlan& plan) { plan.work[0].num_tokens = 0; }},
      {"drafts after 9 of 10",
       [](StepPlan& plan) {
         plan.work[0].num_tokens = 9;
         plan.work[0].draft_token_ids = {1};
       }},
      {"work twice",
       [](StepPlan& plan) {
         plan.work[0].num_tokens = 5;
         plan.work.push_back({.id = 1, .path = ComputePath::kPrefill, .num_tokens = 5});
       }},
      {"decodes position 0 of a prompt of 10",
       [](StepPlan& plan) { plan.work[0].path = ComputePath::kDecode; }},
      {"prefills to position 10 and 1 drafts",
       [](StepPlan& plan) { plan.work[0].draft_token_ids = {1}; }},
      {"preempted but is unknown", [](StepPlan& plan) { plan.preempts = {8}; }},
      {"page 128",
       [](StepPlan& plan) {
         plan.work[0].new_pages = {128, 1, 2};
       }},
      {"to length 10",
       [](StepPlan& plan) {
         plan.work[0].new_pages = {0, 1};
       }},
  };
  for (const BadPlan& bad : bad_plans) {
    ExecutorBench bench(PlainFolder(), 1);
    StepPlan plan;
    plan.starts.push_back(Start(1, 10, 13, Greedy()));
    plan.work.push_back(
        {.id = 1, .path = ComputePath::kPrefill, .new_pages = {0, 1, 2}, .num_tokens = 10});
    bad.spoil(plan);
    const absl::Status status = bench.TryStep(std::move(plan)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << bad.reason;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(bad.reason));
  }
}

TEST(RankExecutorTest, PlansThatExceedThePassAreInternalErrors) {
  ModelRunnerOptions options = TinyRunnerOptions();
  options.max_tokens = 8;
  options.max_logits = 2;
  for (const bool drafts : {false, true}) {
    ExecutorBench bench(PlainFolder(), 1, options);
    StepPlan plan;
    const int length = drafts ? 5 : 9;
    plan.starts.push_back(Start(1, length, 14, Greedy()));
    plan.work.push_back(
        {.id = 1, .path = ComputePath::kPrefill, .new_pages = {0, 1, 2}, .num_tokens = length});
    if (drafts) {
      bench.Step(std::exchange(plan, {}));
      plan.work.push_back({.id = 1, .draft_token_ids = {1, 2}});
    }
    EXPECT_EQ(bench.TryStep(std::move(plan)).status().code(), absl::StatusCode::kInternal);
  }
}

// Hand-made plans whose steps overlap: each starts before the one before it is finished.
class OverlappingSteps {
 public:
  explicit OverlappingSteps(const std::string& folder) : bench_(folder, 1) {}

  // Starts the plan, then finishes the one before it and keeps its tokens.
  void Step(StepPlan plan) {
    ASSERT_TRUE(TryStart(std::move(plan)).ok());
    if (++num_started_ > 1) Finish();
  }
  void Finish() {
    --num_started_;
    for (const SequenceResult& row : bench_.executor(0).Finish().results) {
      finite &= row.finite;
      tokens[row.id].insert(tokens[row.id].end(), row.token_ids.begin(), row.token_ids.end());
    }
  }
  absl::Status TryStart(StepPlan plan) {
    plan.step_id = ++step_id_;
    return bench_.executor(0).Start(plan);
  }
  ExecutorBench& bench() { return bench_; }

  std::map<SequenceId, std::vector<TokenId>> tokens;
  bool finite = true;

 private:
  ExecutorBench bench_;
  int64_t step_id_ = 0;
  int num_started_ = 0;
};

void AddPrompt(SequenceStart start, PageId first_page, StepPlan& plan) {
  plan.work.push_back({.id = start.id,
                       .path = ComputePath::kPrefill,
                       .new_pages = PageRange(first_page, 20),
                       .num_tokens = static_cast<int>(start.prompt.size())});
  plan.starts.push_back(std::move(start));
}

// Neighbours of every kind come, are preempted and go while steps are under way.
TEST(RankExecutorTest, AStepMayStartBeforeTheLastOnesDrawsAreRead) {
  const std::vector<SamplingParams> kinds = {Greedy(), Unfiltered(), Seeded(2)};
  std::vector<std::vector<TokenId>> expected;
  for (const SamplingParams& sampling : kinds) {
    ExecutorBench alone(PlainFolder(), 1);
    expected.push_back(Generate(alone, Start(1, 14, 10, sampling), PageRange(0, 20), 24).tokens);
  }
  OverlappingSteps steps(PlainFolder());
  StepPlan first;
  for (int s = 0; s < 3; ++s) AddPrompt(Start(1 + s, 14, 10, kinds[s]), 20 * s, first);
  steps.Step(std::move(first));
  for (int step = 0; step < 23; ++step) {
    StepPlan plan;
    for (int s = 0; s < 3; ++s) plan.work.push_back({.id = 1 + s, .num_tokens = 1});
    if (step == 4) AddPrompt(Start(9, 14, 11, Unfiltered()), 60, plan);
    if (step == 5 || step == 6) plan.work.push_back({.id = 9, .num_tokens = 1});
    if (step == 7) {  // nobody has read what it drew last
      plan.preempts = {9};
      plan.work.push_back({.id = 9,
                           .path = ComputePath::kPrefill,
                           .new_pages = PageRange(80, 20),
                           .num_tokens = 14});
    }
    if (step == 8) plan.work.push_back({.id = 9, .num_tokens = 3});
    if (step == 9) plan.ends = {9};
    steps.Step(std::move(plan));
  }
  steps.Finish();
  for (int s = 0; s < 3; ++s) EXPECT_EQ(steps.tokens[1 + s], expected[s]) << s;
  ExecutorBench alone(PlainFolder(), 1);
  EXPECT_EQ(steps.tokens[9],
            Generate(alone, Start(9, 14, 11, Unfiltered()), PageRange(0, 20), 4).tokens);
}

TEST(RankExecutorTest, ARowThatIsNotFiniteIsRunOnceMoreAndHarmsNobody) {
  ExecutorBench alone(PoisonFolder(), 1);
  const std::vector<TokenId> expected =
      Generate(alone, Start(1, 12, 10, Unfiltered()), PageRange(0, 20), 4).tokens;
  OverlappingSteps steps(PoisonFolder());
  StepPlan first;
  SequenceStart poisoned = Start(2, 12, 11, Greedy());
  poisoned.prompt.back() = kPoisonToken;
  AddPrompt(std::move(poisoned), 20, first);
  AddPrompt(Start(1, 12, 10, Unfiltered()), 0, first);
  steps.Step(std::move(first));
  for (int step = 0; step < 3; ++step) {
    StepPlan plan;
    if (step == 0) plan.work.push_back({.id = 2, .num_tokens = 1});
    if (step == 1) plan.ends = {2};
    plan.work.push_back({.id = 1, .num_tokens = 1});
    steps.Step(std::move(plan));
    EXPECT_FALSE(steps.finite);
  }
  steps.Finish();
  EXPECT_EQ(steps.tokens[1], expected);
  EXPECT_TRUE(steps.tokens[2].empty());
}

TEST(RankExecutorTest, DraftsAfterATokenThatNobodyHasReadAreRefused) {
  OverlappingSteps steps(PlainFolder());
  StepPlan first;
  AddPrompt(Start(1, 12, 10, Greedy()), 0, first);
  ASSERT_TRUE(steps.TryStart(std::move(first)).ok());
  StepPlan next;
  next.work.push_back({.id = 1, .num_tokens = 1, .draft_token_ids = {5}});
  EXPECT_EQ(steps.TryStart(std::move(next)).code(), absl::StatusCode::kInternal);
}

TEST(RankExecutorTest, ASkippedStepIsAnInternalError) {
  ExecutorBench bench(PlainFolder(), 1);
  EXPECT_TRUE(bench.executor(0).Execute({.step_id = 1}).ok());
  EXPECT_EQ(bench.executor(0).Execute({.step_id = 3}).status().code(), absl::StatusCode::kInternal);
}

TEST(RankExecutorTest, RanksWithDifferentPlansFindOutBeforeTheyRun) {
  ExecutorBench bench(PlainFolder(), 3);
  bench.runners().ranks().Run([&](int r) {
    StepPlan plan{.step_id = 1};
    plan.starts.push_back(Start(1, 10, 15, Greedy()));
    if (r == 2) plan.starts[0].prompt[4] ^= 1;
    plan.work.push_back(
        {.id = 1, .path = ComputePath::kPrefill, .new_pages = {0, 1, 2}, .num_tokens = 10});
    const absl::Status status = bench.executor(r).Execute(plan).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("rank 2"));
    EXPECT_EQ(bench.executor(r).num_sequences(), 0);
  });
}

// Spoils what one rank receives while it draws: the ranks then hold different tokens.
class LyingCommunicator final : public Communicator {
 public:
  explicit LyingCommunicator(Communicator* inner) : inner_(inner) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  absl::Status AllReduceSum(const BlockReduction& reduction) override {
    reduced_ = true;
    return inner_->AllReduceSum(reduction);
  }
  absl::Status AllGather(absl::Span<const std::byte> send, absl::Span<std::byte> recv) override {
    const absl::Status status = inner_->AllGather(send, recv);
    // After a pass's reductions the gathers are the sampler's: erases what rank 0 said.
    if (lying && reduced_) std::fill(recv.begin(), recv.begin() + recv.size() / 2, std::byte{0});
    return status;
  }
  absl::Status Await() override { return inner_->Await(); }
  absl::Status CheckHealth() override { return inner_->CheckHealth(); }
  void Abort() override { inner_->Abort(); }

  bool lying = false;

 private:
  Communicator* const inner_;
  bool reduced_ = false;
};

TEST(RankExecutorTest, RanksThatDrewDifferentTokensFindOutOneStepLater) {
  Ranks ranks(2);
  LyingCommunicator liar(ranks.comm(1));
  const Checkpoint checkpoint = *Checkpoint::Open(PlainFolder());
  const ModelConfig config = *ModelConfig::Load(checkpoint);
  std::vector<std::unique_ptr<ModelRunner>> runners(2);
  std::vector<std::unique_ptr<RankExecutor>> executors(2);
  ranks.Run([&](int r) {
    Communicator* const comm = r == 1 ? &liar : ranks.comm(r);
    runners[r] =
        *ModelRunner::Create(TinyRunnerOptions(), config, checkpoint, ranks.backend(r), comm);
    executors[r] = std::make_unique<RankExecutor>(runners[r].get());
  });
  liar.lying = true;
  StepPlan plan{.step_id = 1};
  plan.starts.push_back(Start(1, 10, 16, Greedy()));
  plan.work.push_back(
      {.id = 1, .path = ComputePath::kPrefill, .new_pages = {0, 1, 2}, .num_tokens = 10});
  std::vector<std::vector<TokenId>> drawn(2);
  ranks.Run([&](int r) { drawn[r] = executors[r]->Execute(plan)->results[0].token_ids; });
  ASSERT_NE(drawn[0], drawn[1]);  // else the lie was harmless and the test says nothing
  liar.lying = false;
  StepPlan next{.step_id = 2};
  next.work.push_back({.id = 1, .num_tokens = 1});
  ranks.Run([&](int r) {
    const absl::Status status = executors[r]->Execute(next).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("last step's tokens"));
  });
}

}  // namespace
}  // namespace krait::testing
