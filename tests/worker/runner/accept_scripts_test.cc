// Every way in which four rounds can go: each with 0 to 4 of 4 drafts accepted, without drafts, or
// with a short draft of 2 that is accepted whole. Tokens equal those of plain decoding, and so does
// what is stored of the sequence, byte for byte.

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/canonical_state.h"
#include "tests/support/executor_bench.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/random_tokens.h"

namespace krait::testing {
namespace {

constexpr int kOutcomes = 7, kRounds = 4, kDrafts = 4;
constexpr StateSlotId kSlot = 2;

struct Outcome {
  int num_drafts;
  int num_accepted;
};
constexpr Outcome kOutcomeOf[kOutcomes] = {{4, 0}, {4, 1}, {4, 2}, {4, 3}, {4, 4}, {0, 0}, {2, 2}};

struct PlainRun {
  std::vector<TokenId> tokens;              // prompt and output
  std::map<int64_t, std::string> state_at;  // by number of computed tokens
};

class AcceptScriptsTest : public ::testing::TestWithParam<std::tuple<std::string, float>> {
 protected:
  AcceptScriptsTest() : bench_(WriteModel(), 1, Options()) {}

  static std::string WriteModel() {
    const std::string mixers = std::get<0>(GetParam());
    const std::string dir = absl::StrCat(::testing::TempDir(), "/accept_scripts_", mixers);
    const HybridOptions options{.mixers = mixers,
                                .base = {.num_heads = 2, .num_kv_heads = 1, .vocab_size = 300}};
    EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, dir).ok());
    return dir;
  }
  static ModelRunnerOptions Options() {
    ModelRunnerOptions options = TinyRunnerOptions();
    options.max_draft_tokens = kDrafts;
    return options;
  }

  SequenceStart Start() {
    SequenceStart start{.id = ++next_id_, .prompt = RandomTokens(kPrompt, 300, 5)};
    start.sampling = {.temperature = std::get<1>(GetParam()), .seed = 3};
    return start;
  }

  // One step of the sequence; `known` grows by what was drawn.
  SequenceResult Step(StepPlan plan, int num_tokens, std::vector<TokenId> drafts,
                      std::vector<TokenId>& known) {
    SequenceWork work{.id = next_id_, .num_tokens = num_tokens};
    if (!plan.starts.empty()) {
      work.new_pages = PageRange(0, 16);
      work.state_slot = kSlot;
      work.path = ComputePath::kPrefill;
    }
    work.draft_token_ids = std::move(drafts);
    plan.work.push_back(std::move(work));
    StepResult result = bench_.Step(std::move(plan));
    known.insert(known.end(), result.results[0].token_ids.begin(),
                 result.results[0].token_ids.end());
    return std::move(result.results[0]);
  }

  void EndSequence() {
    StepPlan plan;
    plan.ends.push_back(next_id_);
    bench_.Step(std::move(plan));
  }

  std::string State(int64_t num_tokens) {
    return CanonicalState(*bench_.runners().runner(0).TEST_states(), kSlot, num_tokens);
  }

  PlainRun RunPlain(int num_tokens) {
    PlainRun run;
    StepPlan plan;
    plan.starts.push_back(Start());
    run.tokens = plan.starts[0].prompt;
    Step(std::move(plan), kPrompt, {}, run.tokens);
    while (static_cast<int>(run.tokens.size()) < kPrompt + num_tokens) {
      run.state_at[run.tokens.size() - 1] = State(run.tokens.size() - 1);
      Step({}, 1, {}, run.tokens);
    }
    EndSequence();
    return run;
  }

  // True drafts up to the outcome's count, then wrong ones.
  static std::vector<TokenId> Drafts(const PlainRun& plain, size_t known, Outcome outcome) {
    std::vector<TokenId> drafts;
    for (int i = 0; i < outcome.num_drafts; ++i) {
      const TokenId truth = plain.tokens[known + i];
      drafts.push_back(i < outcome.num_accepted ? truth : (truth + 1 + i) % 300);
    }
    return drafts;
  }

  // Prompt, four rounds, one plain step that leaves nothing in the rings to be folded.
  bool RunScript(int script, const PlainRun& plain) {
    StepPlan plan;
    plan.starts.push_back(Start());
    std::vector<TokenId> known = plan.starts[0].prompt;
    Step(std::move(plan), kPrompt, {}, known);
    for (int round = 0; round < kRounds; ++round, script /= kOutcomes) {
      const Outcome outcome = kOutcomeOf[script % kOutcomes];
      const SequenceResult result = Step({}, 1, Drafts(plain, known.size(), outcome), known);
      EXPECT_EQ(result.num_accepted, outcome.num_accepted);
    }
    Step({}, 1, {}, known);
    const int64_t computed = static_cast<int64_t>(known.size()) - 1;
    const bool same_tokens = std::equal(known.begin(), known.end(), plain.tokens.begin());
    const bool same_state = State(computed) == plain.state_at.at(computed);
    EndSequence();
    return same_tokens && same_state;
  }

  static constexpr int kPrompt = 27;  // so that the rounds pass a fold boundary at 32

  ExecutorBench bench_;
  SequenceId next_id_ = 0;
};

TEST_P(AcceptScriptsTest, TokensAndStateEqualThoseOfPlainDecoding) {
  const PlainRun plain = RunPlain(kRounds * (kDrafts + 1) + 4);
  int failures = 0;
  for (int script = 0; script < kOutcomes * kOutcomes * kOutcomes * kOutcomes; ++script) {
    if (RunScript(script, plain)) continue;
    ADD_FAILURE() << "script " << script;
    if (++failures == 5) break;
  }
  EXPECT_EQ(bench_.runners().runner(0).num_state_copies(), 0);
}

INSTANTIATE_TEST_SUITE_P(Mixers, AcceptScriptsTest,
                         ::testing::Combine(::testing::Values("1A1", "2A2", "12A"),
                                            ::testing::Values(0.0f, 0.9f)),
                         [](const auto& info) {
                           return absl::StrCat("x", std::get<0>(info.param),
                                               std::get<1>(info.param) == 0 ? "Greedy" : "Seeded");
                         });

}  // namespace
}  // namespace krait::testing
