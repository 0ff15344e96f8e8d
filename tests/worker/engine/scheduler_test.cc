#include "worker/engine/scheduler.h"

#include <optional>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "tests/support/datadriven.h"
#include "tests/support/scripted_model.h"

namespace krait {
namespace {

using testing::DataCommand;
using testing::ScriptedModel;

// Speaks the language of testdata/*.txt: sequences are letters, `accept=b:2` decides how many of
// b's drafts are right.
class SchedulerScript {
 public:
  std::string Run(const DataCommand& command) {
    if (command.name == "new") return New(command);
    if (command.name == "add") return Add(command);
    if (command.name == "step") return Step(command);
    if (command.name == "end") return scheduler_->End(Id(command)) ? "ended" : "unknown";
    if (command.name == "pause") return Pause(command);
    if (command.name == "resume") return Resume(command);
    if (command.name == "expired") return Expired(command);
    if (command.name == "state") return State();
    return "unknown command";
  }

 private:
  static SequenceId Id(const DataCommand& command) { return command.Text("id")[0] - 'a' + 1; }
  static std::string Name(SequenceId id) { return std::string(1, static_cast<char>('a' + id - 1)); }

  std::string New(const DataCommand& command) {
    scheduler_ = std::make_unique<Scheduler>(
        SchedulerConfig{.pool = {.cache = {.num_pages = command.Int("pages", 100),
                                           .page_size = command.Int("page", 16),
                                           .num_state_slots = command.Int("slots", 0)},
                                 .max_running = command.Int("running", 4),
                                 .reserved_output_tokens = command.Int("reserve", 1024),
                                 .max_paused_pages = command.Int("paused", 0)},
                        .max_num_batched_tokens = command.Int("budget", 32),
                        .max_known_drafts = command.Int("known", 64)});
    return "";
  }

  std::string Add(const DataCommand& command) {
    auto sequence = std::make_unique<Sequence>(
        Id(command), std::vector<TokenId>(command.Int("prompt", 1), 7), SamplingParams{},
        StopParams{.max_tokens = command.Int("max", 10), .stop_token_ids = {99}});
    sequence->max_draft_tokens = command.Int("drafts", 0);
    if (command.has("deadline")) sequence->deadline = absl::Seconds(command.Int("deadline", 0));
    scheduler_->Add(std::move(sequence));
    return "";
  }

  std::string Step(const DataCommand& command) {
    const int wanted = command.Int("k", 100);
    auto step = scheduler_->Schedule([&](absl::Span<const DraftLimit> limits) {
      std::vector<int> chosen;
      for (const DraftLimit& limit : limits) {
        chosen.push_back(std::min(wanted, limit.max_draft_tokens));
      }
      return chosen;
    });
    if (!step.has_value()) return "idle";
    std::string text = absl::StrCat("step ", step->plan.step_id, "\n");
    AppendNames("drop ", step->plan.preempts, text);
    AppendNames("forget ", step->plan.ends, text);
    AppendNames("preempt ", step->changes.preempted, text);
    AppendNames("admit ", step->changes.admitted, text);
    AppendNames("readmit ", step->changes.readmitted, text);
    StepResult result{.step_id = step->plan.step_id};
    for (size_t i = 0; i < step->plan.work.size(); ++i) {
      SequenceWork& work = step->plan.work[i];
      work.draft_token_ids.assign(step->num_draft_tokens[i], 5);
      const bool again = work.path == ComputePath::kDecode && work.num_tokens > 1;
      absl::StrAppend(&text, Name(work.id), again ? " known" : "", " tokens=", work.num_tokens,
                      " drafts=", step->num_draft_tokens[i],
                      " pages=", absl::StrJoin(work.new_pages, ","), "\n");
      result.results.push_back(Draw(command, work));
    }
    for (const Progress& progress : scheduler_->Apply(step->plan, result)) {
      if (progress.token_ids.empty() && progress.finite) continue;
      absl::StrAppend(&text, Name(progress.id), " drew ", progress.token_ids.size(), " from ",
                      progress.first_index, !progress.finite ? " not finite" : "",
                      progress.stop == StopCause::kStopToken   ? " stop"
                      : progress.stop == StopCause::kMaxTokens ? " length"
                                                               : "",
                      "\n");
    }
    return text;
  }

  static void AppendNames(const char* verb, const std::vector<SequenceId>& ids, std::string& text) {
    for (SequenceId id : ids) absl::StrAppend(&text, verb, Name(id), "\n");
  }

  std::string Pause(const DataCommand& command) {
    scheduler_->Pause(Id(command));
    return State();
  }
  std::string Resume(const DataCommand& command) {
    scheduler_->Resume(Id(command));
    return State();
  }

  SequenceResult Draw(const DataCommand& command, const SequenceWork& work) {
    SequenceResult result{.id = work.id};
    if (work.num_tokens < scheduler_->Find(work.id)->num_uncomputed()) return result;
    if (command.Text("nan") == Name(work.id)) {
      result.finite = false;
      return result;
    }
    const std::string accept = command.Text("accept");
    const size_t at = accept.find(Name(work.id) + ":");
    const int accepted = at == std::string::npos ? 0 : accept[at + 2] - '0';
    result.num_accepted = accepted;
    result.token_ids.assign(accepted + 1, 5);
    if (command.Text("stop") == Name(work.id)) result.token_ids[0] = 99;
    return result;
  }

  std::string Expired(const DataCommand& command) {
    std::string text;
    for (SequenceId id : scheduler_->Expired(absl::Seconds(command.Int("now", 0)))) {
      absl::StrAppend(&text, Name(id), "\n");
    }
    return text;
  }

  std::string State() {
    return absl::StrCat(
        "running=", scheduler_->num_running(), " waiting=", scheduler_->num_waiting(),
        scheduler_->num_paused() == 0 ? "" : absl::StrCat(" paused=", scheduler_->num_paused()),
        " free_pages=", scheduler_->cache().num_free_pages(),
        " queued_tokens=", scheduler_->num_queued_tokens());
  }

  std::unique_ptr<Scheduler> scheduler_;
};

class SchedulerGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(SchedulerGoldenTest, DecidesAsWritten) {
  SchedulerScript script;
  testing::RunDataDriven(absl::StrCat("tests/worker/engine/testdata/", GetParam(), ".txt"),
                         [&](const DataCommand& command) { return script.Run(command); });
}

INSTANTIATE_TEST_SUITE_P(Files, SchedulerGoldenTest,
                         ::testing::Values("admission", "batching", "speculation", "ending",
                                           "preemption", "aging", "pausing"),
                         [](const auto& info) { return std::string(info.param); });

// One random life of a scheduler: arrivals, cancels, pauses, acceptances and drafts, or steps that
// run ahead, executed by a model that checks every plan.
class RandomTrace {
 public:
  RandomTrace(uint32_t seed, bool runs_ahead)
      : random_(seed),
        runs_ahead_(runs_ahead),
        config_(Config(random_)),
        scheduler_(config_),
        model_({.page_size = config_.pool.cache.page_size, .runs_ahead = runs_ahead}) {}

  void Run() {
    const int arrivals_end = 40 + static_cast<int>(random_() % 60);
    for (int number = 0; number < arrivals_end || !live_.empty() || started_; ++number) {
      ASSERT_LT(number, 6000) << "it never drains";
      const bool arriving = number < arrivals_end;
      if (arriving && random_() % 3 == 0) Add();
      if (!live_.empty() && random_() % 40 == 0) Cancel();
      if (!live_.empty() && random_() % 12 == 0) scheduler_.Pause(Any());
      // In the end everybody reads.
      for (auto& [id, life] : live_) {
        if (!arriving || random_() % 8 == 0) scheduler_.Resume(id);
      }
      Step();
      if (::testing::Test::HasFatalFailure()) return;
    }
    EXPECT_EQ(scheduler_.cache().num_free_pages(), config_.pool.cache.num_pages);
    EXPECT_EQ(scheduler_.num_running() + scheduler_.num_waiting() + scheduler_.num_paused(), 0);
    EXPECT_EQ(scheduler_.num_queued_tokens(), 0);
  }

  int preemptions = 0, recomputed_tokens = 0, most_preemptions = 0;
  int steps_ahead = 0, wasted_rows = 0;

 private:
  struct Life {
    std::vector<TokenId> tokens;  // prompt and output
    int prompt_tokens = 0;
    SamplingParams sampling;
    int preemptions = 0;
  };

  static SchedulerConfig Config(std::mt19937& random) {
    SchedulerConfig config;
    config.pool.cache = {.num_pages = 12 + static_cast<int>(random() % 20), .page_size = 4};
    config.pool.max_running = 1 + random() % 8;
    config.pool.reserved_output_tokens = 1 + random() % 12;
    config.pool.max_paused_pages = random() % 8;
    config.max_num_batched_tokens = 8 + random() % 40;
    config.max_known_drafts = 1 + random() % 9;
    return config;
  }

  SequenceId Any() {
    auto it = live_.begin();
    std::advance(it, random_() % live_.size());
    return it->first;
  }

  void Add() {
    const int room = config_.pool.cache.num_pages * config_.pool.cache.page_size;
    const int max_tokens = 1 + static_cast<int>(random_() % (room / 2));
    const int prompt_tokens = 1 + static_cast<int>(random_() % (room - max_tokens));
    Life& life = live_[next_id_];
    life.tokens.assign(prompt_tokens, static_cast<TokenId>(random_() % 100));
    life.prompt_tokens = prompt_tokens;
    life.sampling.seed = random_();
    StopParams stop{.max_tokens = max_tokens};
    for (TokenId id = 0; id < 100 && runs_ahead_; id += 17) stop.stop_token_ids.push_back(id);
    auto sequence = std::make_unique<Sequence>(next_id_, life.tokens, life.sampling, stop);
    sequence->max_draft_tokens = random_() % 9;
    scheduler_.Add(std::move(sequence));
    ++next_id_;
  }

  void Cancel() {
    const SequenceId id = Any();
    EXPECT_TRUE(scheduler_.End(id));
    EXPECT_FALSE(scheduler_.End(id));
    live_.erase(id);
  }

  void Step() {
    auto step = scheduler_.Schedule([&](absl::Span<const DraftLimit> limits) {
      std::vector<int> chosen;
      for (const DraftLimit& limit : limits) {
        chosen.push_back(runs_ahead_ ? 0 : random_() % (limit.max_draft_tokens + 1));
      }
      return chosen;
    });
    const bool paused_only = scheduler_.num_paused() == static_cast<int>(live_.size());
    if (!started_) {
      ASSERT_EQ(step.has_value(), !paused_only) << "somebody who may run always does";
    }
    if (!step.has_value()) return Finish();
    CountPreemptions(*step);
    for (size_t i = 0; i < step->plan.work.size(); ++i) {
      Draft(step->num_draft_tokens[i], step->plan.work[i]);
    }
    ASSERT_LE(step->plan.num_tokens(), config_.max_num_batched_tokens);
    model_.Start(std::make_shared<const StepPlan>(step->plan));
    if (runs_ahead_) scheduler_.Assume(step->plan);
    steps_ahead += started_.has_value();
    Finish();
    started_ = std::move(step->plan);
    if (!runs_ahead_ || random_() % 5 == 0) Finish();
  }

  // The step that was started last, if it has not been finished.
  void Finish() {
    if (!started_) return;
    const auto result = model_.Finish(absl::Seconds(1));
    ASSERT_TRUE(result.ok());
    const std::vector<Progress> progress = scheduler_.Apply(*started_, *result);
    wasted_rows += static_cast<int>(started_->work.size() - progress.size());
    for (const Progress& one : progress) Check(one);
    scheduler_.cache().CheckIntegrity();
    started_.reset();
  }

  void CountPreemptions(const ScheduledStep& step) {
    recomputed_tokens += step.recomputed_tokens;
    for (SequenceId id : step.changes.preempted) {
      ++preemptions;
      most_preemptions = std::max(most_preemptions, ++live_.at(id).preemptions);
    }
    const Sequence* oldest = nullptr;
    for (auto& [id, life] : live_) {
      const Sequence* sequence = scheduler_.Find(id);
      if (sequence->state != SequenceState::kRunning) continue;
      const bool works = std::any_of(step.plan.work.begin(), step.plan.work.end(),
                                     [id = id](const SequenceWork& work) { return work.id == id; });
      EXPECT_TRUE(works || !sequence->decoding()) << "a decoding sequence runs in every step";
      const bool ending = sequence->num_left() == 0;
      EXPECT_TRUE(works || ending || oldest != nullptr) << "the oldest advances in every step";
      if (oldest == nullptr) oldest = sequence;
    }
  }

  // Right drafts, then wrong ones.
  void Draft(int num_drafts, SequenceWork& work) {
    const Sequence* sequence = scheduler_.Find(work.id);
    std::vector<TokenId> path = sequence->tokens;
    const int right = random_() % (num_drafts + 1);
    for (int j = 0; j < num_drafts; ++j) {
      const TokenId next = testing::ScriptedNext(sequence->sampling, path, 100);
      work.draft_token_ids.push_back(j < right ? next : (next + 1) % 100);
      path.push_back(work.draft_token_ids.back());
    }
  }

  // Whatever happened in between, the output is the undisturbed one.
  void Check(const Progress& progress) {
    Life& life = live_.at(progress.id);
    EXPECT_EQ(progress.first_index + life.prompt_tokens, static_cast<int>(life.tokens.size()));
    for (TokenId id : progress.token_ids) {
      EXPECT_EQ(id, testing::ScriptedNext(life.sampling, life.tokens, 100));
      life.tokens.push_back(id);
    }
    if (progress.stop != StopCause::kNone) live_.erase(progress.id);
  }

  std::mt19937 random_;
  const bool runs_ahead_;
  const SchedulerConfig config_;
  Scheduler scheduler_;
  ScriptedModel model_;
  std::optional<StepPlan> started_;
  std::map<SequenceId, Life> live_;
  SequenceId next_id_ = 1;
};

TEST(SchedulerPropertyTest, BudgetHoldsNobodyStarvesPagesAreConserved) {
  int64_t preemptions = 0, recomputed_tokens = 0;
  int most_preemptions = 0;
  for (uint32_t seed = 0; seed < 10000; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed=", seed));
    RandomTrace trace(seed, false);
    trace.Run();
    if (HasFailure()) return;
    preemptions += trace.preemptions;
    recomputed_tokens += trace.recomputed_tokens;
    most_preemptions = std::max(most_preemptions, trace.most_preemptions);
  }
  EXPECT_EQ(most_preemptions, 3);
  EXPECT_GT(preemptions, 10000);
  EXPECT_GT(recomputed_tokens, preemptions);
}

// The tokens are checked one by one, and every plan against what the model holds.
TEST(SchedulerPropertyTest, RunningAheadKeepsAllOfThat) {
  int64_t preemptions = 0, steps_ahead = 0, wasted_rows = 0;
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed=", seed));
    RandomTrace trace(seed, true);
    trace.Run();
    if (HasFailure()) return;
    preemptions += trace.preemptions;
    steps_ahead += trace.steps_ahead;
    wasted_rows += trace.wasted_rows;
  }
  EXPECT_GT(preemptions, 3000);
  EXPECT_GT(steps_ahead, 100000);
  EXPECT_GT(wasted_rows, 1000);
}

}  // namespace
}  // namespace krait
