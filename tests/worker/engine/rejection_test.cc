// Rejection sampling through the whole engine, with a draft in its process: the law of what is
// emitted, how many drafts are accepted, and what must not change.

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/chi_square.h"
#include "tests/support/counting_observer.h"
#include "tests/support/plain_law.h"
#include "tests/support/sink_log.h"
#include "tests/support/tiny_checkpoint.h"
#include "worker/engine/engine.h"
#include "worker/speculative/draft_model_proposer.h"

namespace krait {
namespace {

using testing::Cell;
using testing::ChanceOf;
using testing::CountingObserver;
using testing::Law;
using testing::SinkLog;
using testing::TinyModel;

// Tokens that a request may draw: few, so that their law shows in few requests.
constexpr TokenId kFirst = 10;
constexpr int kDrawn = 8;
constexpr int kVocab = 512;
constexpr int kRequests = 6'000;

class RejectionTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new std::string(absl::StrCat(::testing::TempDir(), "krait-rejection-", getpid()));
    TinyModel target = testing::MakeTinyModel({.num_layers = 2});
    CHECK_OK(testing::WriteTinyFolder(target, *dir_ + "/target"));
    testing::AddNoise(target, 0.1f, 5);
    CHECK_OK(testing::WriteTinyFolder(target, *dir_ + "/draft"));
  }
  static void TearDownTestSuite() {
    std::filesystem::remove_all(*dir_);
    delete dir_;
  }

  std::unique_ptr<Engine> Make(const std::string& model, int num_drafts, int num_ranks = 1) {
    EngineConfig config;
    config.group.model_path = *dir_ + "/" + model;
    config.group.runner.weight_dtype = DType::kF32;
    config.group.runner.num_pages = 400;
    config.group.tensor_parallel_size = num_ranks;
    config.max_running = 64;
    config.max_waiting = kRequests;
    config.max_num_batched_tokens = 64 * 8;
    config.max_draft_tokens = num_drafts;
    config.fixed_draft_tokens = true;
    config.proposal_deadline = absl::InfiniteDuration();
    observer_ = CountingObserver();
    auto engine =
        Engine::Create(config, num_drafts > 0 ? Draft() : nullptr, &clock_, &observer_, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  std::unique_ptr<Proposer> Draft() {
    DraftModelOptions options{
        .model_path = *dir_ + "/draft", .max_sequences = 64, .for_rejection = true};
    options.runner.weight_dtype = DType::kF32;
    options.runner.num_pages = 400;
    auto proposer = DraftModelProposer::Create(options, &clock_);
    EXPECT_TRUE(proposer.ok()) << proposer.status();
    return *std::move(proposer);
  }

  // Only kDrawn tokens, with processors and filters beside.
  static SamplingParams Params(uint64_t seed) {
    SamplingParams params{
        .temperature = 0.9f, .top_p = 0.97f, .presence_penalty = 0.3f, .seed = seed};
    for (TokenId id = kFirst; id < kFirst + kDrawn; ++id) params.logit_bias.push_back({id, 100});
    return params;
  }
  static std::shared_ptr<SinkLog> Submit(Engine& engine, const std::vector<TokenId>& prompt,
                                         const SamplingParams& params, int max_tokens) {
    static int next = 0;
    auto sink = std::make_shared<SinkLog>();
    GenerationRequest request{.request_id = absl::StrCat("r", next++), .prompt = prompt};
    request.sampling = params;
    request.stop.max_tokens = max_tokens;
    const absl::Status status = engine.Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  static std::vector<TokenId> Await(SinkLog& sink) {
    sink.ended.WaitForNotification();
    EXPECT_TRUE(sink.status.ok()) << sink.status;
    return sink.token_ids;
  }
  static std::vector<std::vector<TokenId>> Run(Engine& engine, int num_requests, int max_tokens) {
    std::vector<std::shared_ptr<SinkLog>> sinks;
    for (int seed = 0; seed < num_requests; ++seed) {
      sinks.push_back(Submit(engine, Prompt(), Params(seed), max_tokens));
    }
    std::vector<std::vector<TokenId>> outputs;
    for (const auto& sink : sinks) outputs.push_back(Await(*sink));
    engine.WaitIdle(absl::InfiniteDuration());
    return outputs;
  }
  static std::vector<TokenId> Prompt() { return {40, 41, 42}; }

  // The law of the token that follows prompt + output, from the model's own logprobs: a request for
  // each token, which it cannot but draw.
  static Law LawAfter(Engine& engine, const std::vector<TokenId>& output) {
    std::vector<TokenId> tokens = Prompt();
    tokens.insert(tokens.end(), output.begin(), output.end());
    std::vector<std::shared_ptr<SinkLog>> sinks;
    for (TokenId id = kFirst; id < kFirst + kDrawn; ++id) {
      sinks.push_back(Submit(engine, tokens,
                             {.temperature = 0, .num_logprobs = 0, .logit_bias = {{id, 100}}}, 1));
    }
    std::vector<float> logits(kVocab, -1000);
    for (const auto& sink : sinks) {
      const TokenId id = Await(*sink)[0];
      logits[id] = sink->logprobs[0].token.logprob;
    }
    const SamplingParams params = Params(0);
    return testing::PlainLaw(
        logits,
        {.params = &params, .history = tokens, .prompt_tokens = static_cast<int>(Prompt().size())});
  }

  static std::string* dir_;
  RealClock clock_;
  CountingObserver observer_;
};

std::string* RejectionTest::dir_ = nullptr;

// Of three tokens, the last two after drafts: their law is the model's own, and so is that of the
// same requests without a draft.
TEST_F(RejectionTest, TokensHaveTheLawOfTheModelWithAndWithoutDrafts) {
  std::map<std::vector<TokenId>, double> law;
  {
    const auto engine = Make("target", 0);
    const Law first = LawAfter(*engine, {});
    for (TokenId a = kFirst; a < kFirst + kDrawn; ++a) {
      const Law second = LawAfter(*engine, {a});
      for (TokenId b = kFirst; b < kFirst + kDrawn; ++b) {
        const Law third = LawAfter(*engine, {a, b});
        for (TokenId c = kFirst; c < kFirst + kDrawn; ++c) {
          law[{a, b, c}] = first[a] * second[b] * third[c];
        }
      }
    }
  }
  for (const int num_drafts : {0, 1, 4}) {
    const auto engine = Make("target", num_drafts);
    std::map<std::vector<TokenId>, Cell> cells;
    for (const auto& [tokens, p] : law) cells[tokens].expected = p * kRequests;
    for (std::vector<TokenId> tokens : Run(*engine, kRequests, 5)) {
      ASSERT_EQ(tokens.size(), 5u);
      tokens.resize(3);
      ++cells[tokens].seen;
    }
    std::vector<Cell> list;
    for (const auto& [tokens, cell] : cells) list.push_back(cell);
    EXPECT_GT(ChanceOf(list), 1e-7) << "drafts=" << num_drafts;
    if (num_drafts > 0) EXPECT_GT(observer_.accepted_tokens, kRequests / 2);
  }
}

// The first draft of a request follows its first token.
TEST_F(RejectionTest, DraftsAreAcceptedAsOftenAsTheLawsOverlap) {
  double expected = 0;
  {
    const auto target = Make("target", 0), draft = Make("draft", 0);
    const Law first = LawAfter(*target, {});
    for (TokenId a = kFirst; a < kFirst + kDrawn; ++a) {
      expected += first[a] * testing::Overlap(LawAfter(*target, {a}), LawAfter(*draft, {a}));
    }
  }
  const auto engine = Make("target", 1);
  Run(*engine, kRequests, 3);
  ASSERT_EQ(observer_.draft_tokens, kRequests);
  const double deviation = std::sqrt(expected * (1 - expected) / kRequests);
  EXPECT_LT(expected, 0.95) << "the draft is worth testing";
  EXPECT_NEAR(1.0 * observer_.accepted_tokens / kRequests, expected, 5 * deviation);
}

TEST_F(RejectionTest, GreedyTokensAreTheTargets) {
  SamplingParams greedy{.temperature = 0};
  std::vector<TokenId> plain;
  for (const int num_drafts : {0, 1, 4}) {
    const auto engine = Make("target", num_drafts);
    const std::vector<TokenId> tokens = Await(*Submit(*engine, Prompt(), greedy, 60));
    if (num_drafts == 0) plain = tokens;
    EXPECT_EQ(tokens, plain) << num_drafts;
    engine->WaitIdle(absl::InfiniteDuration());
    if (num_drafts > 0) EXPECT_GT(observer_.accepted_tokens, 0);
  }
}

TEST_F(RejectionTest, SeedsRepeatAloneAndAmongOthersAndOnAnyNumberOfRanks) {
  const auto engine = Make("target", 3);
  const std::vector<std::vector<TokenId>> together = Run(*engine, 40, 24);
  EXPECT_EQ(Run(*engine, 40, 24), together);
  for (int seed = 0; seed < 10; ++seed) {
    EXPECT_EQ(Await(*Submit(*engine, Prompt(), Params(seed), 24)), together[seed]) << seed;
  }
  EXPECT_NE(together[0], together[1]);
  const auto two = Make("target", 3, 2);
  EXPECT_EQ(Run(*two, 40, 24), together);
  EXPECT_GT(observer_.accepted_tokens, 0);
}

// Without a draft it is plain sampling, token for token.
TEST_F(RejectionTest, RequestsWithoutDraftsAreThoseOfTheOtherMode) {
  const auto plain = Make("target", 0);
  const std::vector<std::vector<TokenId>> expected = Run(*plain, 8, 12);
  const auto engine = Make("target", 4);
  for (int seed = 0; seed < 8; ++seed) {
    auto sink = std::make_shared<SinkLog>();
    GenerationRequest request{.request_id = absl::StrCat("plain", seed), .prompt = Prompt()};
    request.sampling = Params(seed);
    request.stop.max_tokens = 12;
    request.max_draft_tokens = 0;
    ASSERT_TRUE(engine->Submit(std::move(request), sink).ok());
    EXPECT_EQ(Await(*sink), expected[seed]);
  }
}

}  // namespace
}  // namespace krait
