// One sequence under any schedule of chunks, drafts, acceptances, neighbours and preemptions: its
// tokens are those of plain decoding, and so is what is stored of it, byte for byte.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/canonical_state.h"
#include "tests/support/hybrid_checkpoint.h"
#include "tests/support/random_tokens.h"
#include "tests/support/scheduled_sequence.h"

namespace krait::testing {
namespace {

constexpr int kVocab = 300, kMaxDrafts = 8, kOutput = 45;
constexpr int kNumSlots = 8, kPagesASlot = 32;  // TinyRunnerOptions: pages of 4 tokens

struct PlainRun {
  std::vector<TokenId> tokens;              // prompt and output, some more than kOutput
  std::map<int64_t, std::string> state_at;  // by number of computed tokens
};

class RandomSchedulesTest : public ::testing::TestWithParam<std::string> {
 protected:
  RandomSchedulesTest() : bench_(WriteModel(), 1, Options()) {}

  static std::string WriteModel() {
    const std::string dir = absl::StrCat(::testing::TempDir(), "/random_schedules_", GetParam());
    const HybridOptions options{.mixers = GetParam(),
                                .base = {.num_heads = 2, .num_kv_heads = 1, .vocab_size = kVocab}};
    EXPECT_TRUE(WriteHybridFolder(MakeHybridModel(options), options, dir).ok());
    return dir;
  }
  static ModelRunnerOptions Options() {
    ModelRunnerOptions options = TinyRunnerOptions();
    options.num_pages = kNumSlots * kPagesASlot;
    options.num_state_slots = kNumSlots;
    options.max_draft_tokens = kMaxDrafts;
    return options;
  }

  ScheduledSequence Sequence(int prompt_tokens, StateSlotId slot, float temperature = 0.9f) {
    SequenceStart start{.id = ++next_id_,
                        .prompt = RandomTokens(prompt_tokens, kVocab, prompt_tokens)};
    start.sampling = {.temperature = temperature, .seed = 3};
    return ScheduledSequence(std::move(start), slot, PageRange(slot * kPagesASlot, kPagesASlot));
  }
  std::string State(const ScheduledSequence& sequence, StateSlotId slot) {
    return CanonicalState(*bench_.runners().runner(0).TEST_states(), slot, sequence.num_computed());
  }
  // Runs a plan whose last work is the sequence's.
  void Run(StepPlan plan, ScheduledSequence& sequence) {
    sequence.Take(bench_.Step(std::move(plan)).results.back());
  }
  void End(ScheduledSequence& sequence) {
    StepPlan plan;
    sequence.End(plan);
    bench_.Step(std::move(plan));
  }

  const PlainRun& Plain(int prompt_tokens) {
    PlainRun& run = plain_[prompt_tokens];
    if (!run.tokens.empty()) return run;
    ScheduledSequence sequence = Sequence(prompt_tokens, 0);
    while (static_cast<int>(sequence.known().size()) <= prompt_tokens + kOutput + kMaxDrafts) {
      StepPlan plan;
      sequence.Work(plan, sequence.num_runnable());
      Run(std::move(plan), sequence);
      run.state_at[sequence.num_computed()] = State(sequence, 0);
    }
    run.tokens = sequence.known();
    End(sequence);
    return run;
  }

  // `num_accepted` true drafts, then wrong ones.
  static std::vector<TokenId> Drafts(const PlainRun& plain, size_t known, int num_drafts,
                                     int num_accepted) {
    std::vector<TokenId> drafts;
    for (int i = 0; i < num_drafts; ++i) {
      const TokenId truth = plain.tokens[known + i];
      drafts.push_back(i < num_accepted ? truth : (truth + 1 + i) % kVocab);
    }
    return drafts;
  }

  // One plain step, which leaves no drafts in the rings; then tokens and state must be the plain
  // ones.
  ::testing::AssertionResult EndsAsPlain(ScheduledSequence& sequence, StateSlotId slot,
                                         const PlainRun& plain) {
    StepPlan plan;
    sequence.Work(plan, sequence.num_runnable());
    Run(std::move(plan), sequence);
    const std::string state = State(sequence, slot);
    End(sequence);
    const std::vector<TokenId>& known = sequence.known();
    if (!std::equal(known.begin(), known.end(), plain.tokens.begin())) {
      return ::testing::AssertionFailure() << "other tokens";
    }
    if (state != plain.state_at.at(sequence.num_computed())) {
      return ::testing::AssertionFailure() << "another state after " << sequence.num_computed();
    }
    return ::testing::AssertionSuccess();
  }

  ExecutorBench bench_;
  SequenceId next_id_ = 0;
  std::map<int, PlainRun> plain_;
};

// Comes and goes in other slots, with prompts in chunks and drafts that are all wrong.
class Neighbour {
 public:
  using Make = std::function<ScheduledSequence()>;
  explicit Neighbour(Make make) : make_(std::move(make)) {}

  // What it does in this step; true if it has work in the plan.
  bool Act(StepPlan& plan, std::mt19937& random) {
    if (!sequence_) {
      if (random() % 3 == 0) sequence_.emplace(make_());
      if (!sequence_) return false;
    } else if (random() % 8 == 0 || sequence_->known().size() > 90) {
      sequence_->End(plan);
      sequence_.reset();
      return false;
    }
    const int runnable = sequence_->num_runnable();
    const bool drafts = sequence_->may_draft();
    sequence_->Work(plan, drafts ? runnable : 1 + static_cast<int>(random() % runnable),
                    RandomTokens(drafts ? random() % 5 : 0, kVocab, random()));
    return true;
  }
  void Take(const SequenceResult& result) { sequence_->Take(result); }
  void End(StepPlan& plan) {
    if (sequence_) sequence_->End(plan);
  }

 private:
  const Make make_;
  std::optional<ScheduledSequence> sequence_;
};

// A thousand schedules; slots go round, so each is used after many others.
TEST_P(RandomSchedulesTest, ChangeNeitherTokensNorState) {
  constexpr int kSchedules = 1000;
  const int prompts[] = {1, 2, 3, 4, 5, 6, 27, 40};
  int64_t preemptions = 0, shared_steps = 0;
  for (int schedule = 0; schedule < kSchedules; ++schedule) {
    std::mt19937 random(schedule);
    const int prompt = prompts[schedule % std::size(prompts)];
    const PlainRun& plain = Plain(prompt);
    const StateSlotId slot = schedule % kNumSlots;
    const StateSlotId other = (slot + 1 + schedule % 3) % kNumSlots;
    ScheduledSequence sequence = Sequence(prompt, slot);
    Neighbour neighbour([&] { return Sequence(20 + static_cast<int>(random() % 40), other); });
    while (static_cast<int>(sequence.known().size()) < prompt + kOutput) {
      StepPlan plan;
      if (sequence.num_computed() > 0 && random() % 20 == 0) {
        sequence.Preempt(plan);
        ++preemptions;
      }
      const bool shared = neighbour.Act(plan, random);
      const int runnable = sequence.num_runnable();
      int num_tokens = 1 + static_cast<int>(random() % runnable);
      if (random() % 2 == 0) num_tokens = runnable;
      int drafts = 0;
      if (sequence.may_draft() && num_tokens == runnable) drafts = random() % (kMaxDrafts + 1);
      const int accepted = static_cast<int>(random() % (drafts + 1));
      sequence.Work(plan, num_tokens, Drafts(plain, sequence.known().size(), drafts, accepted));
      const StepResult result = bench_.Step(std::move(plan));
      if (shared) neighbour.Take(result.results.front());
      shared_steps += shared;
      sequence.Take(result.results.back());
      ASSERT_EQ(result.results.back().num_accepted, accepted) << "schedule " << schedule;
    }
    StepPlan leave;
    neighbour.End(leave);
    bench_.Step(std::move(leave));
    ASSERT_TRUE(EndsAsPlain(sequence, slot, plain)) << "schedule " << schedule;
  }
  EXPECT_GT(preemptions, kSchedules / 2);
  EXPECT_GT(shared_steps, kSchedules);
  EXPECT_EQ(bench_.runners().runner(0).num_state_copies(), 0);
}

// Wherever a sequence is preempted, after plain steps and after drafts of which some were accepted.
TEST_P(RandomSchedulesTest, APreemptionAtEveryBoundaryChangesNothing) {
  const int prompt = 27;  // so that the rounds pass a fold boundary at 32
  const PlainRun& plain = Plain(prompt);
  for (int boundary = 0; boundary < 12; ++boundary) {
    for (const int accepted : {0, 2, 4}) {
      ScheduledSequence sequence = Sequence(prompt, 2);
      for (int step = 0; step < 12; ++step) {
        StepPlan plan;
        if (step == boundary && step > 0) sequence.Preempt(plan);
        const bool drafts = sequence.may_draft();
        sequence.Work(
            plan, sequence.num_runnable(),
            drafts ? Drafts(plain, sequence.known().size(), 4, accepted) : std::vector<TokenId>());
        Run(std::move(plan), sequence);
        if (static_cast<int>(sequence.known().size()) > prompt + kOutput) break;
      }
      ASSERT_TRUE(EndsAsPlain(sequence, 2, plain)) << boundary << " " << accepted;
    }
  }
}

// Another sequence's prompt comes in chunks between any two of four rounds of drafts.
TEST_P(RandomSchedulesTest, AChunkedPrefillBetweenAnyRoundsChangesNothing) {
  const PlainRun& plain = Plain(27);
  for (int begin = 0; begin < 5; ++begin) {
    for (const int chunk : {1, 5, 33}) {
      ScheduledSequence sequence = Sequence(27, 1), other = Sequence(40, 4);
      for (int round = 0; round < 6; ++round) {
        StepPlan plan;
        const bool shared = round >= begin && other.num_computed() < 40;
        if (shared) other.Work(plan, std::min(chunk, other.num_runnable()));
        sequence.Work(plan, sequence.num_runnable(),
                      round == 0 ? std::vector<TokenId>()
                                 : Drafts(plain, sequence.known().size(), 4, round % 5));
        const StepResult result = bench_.Step(std::move(plan));
        if (shared) other.Take(result.results.front());
        sequence.Take(result.results.back());
      }
      End(other);
      ASSERT_TRUE(EndsAsPlain(sequence, 1, plain)) << begin << " " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Mixers, RandomSchedulesTest, ::testing::Values("1A1", "2A2", "12A"),
                         [](const auto& info) { return absl::StrCat("x", info.param); });

}  // namespace
}  // namespace krait::testing
