#include "worker/engine/scheduler.h"

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
    if (command.name == "expired") return Expired(command);
    if (command.name == "state") return State();
    return "unknown command";
  }

 private:
  static SequenceId Id(const DataCommand& command) { return command.Text("id")[0] - 'a' + 1; }
  static std::string Name(SequenceId id) { return std::string(1, static_cast<char>('a' + id - 1)); }

  std::string New(const DataCommand& command) {
    scheduler_ = std::make_unique<Scheduler>(SchedulerConfig{
        .cache = {.num_pages = command.Int("pages", 100), .page_size = command.Int("page", 16)},
        .max_running = command.Int("running", 4),
        .max_num_batched_tokens = command.Int("budget", 32)});
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
    for (SequenceId id : step->plan.ends) absl::StrAppend(&text, "forget ", Name(id), "\n");
    for (SequenceId id : step->admitted) absl::StrAppend(&text, "admit ", Name(id), "\n");
    StepResult result{.step_id = step->plan.step_id};
    for (size_t i = 0; i < step->plan.work.size(); ++i) {
      SequenceWork& work = step->plan.work[i];
      work.draft_token_ids.assign(step->num_draft_tokens[i], 5);
      absl::StrAppend(&text, Name(work.id), " tokens=", work.num_tokens,
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
    return absl::StrCat("running=", scheduler_->num_running(),
                        " waiting=", scheduler_->num_waiting(),
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
                         ::testing::Values("admission", "batching", "speculation", "ending"),
                         [](const auto& info) { return std::string(info.param); });

// Random arrivals, cancels, acceptances and drafts, executed by a model that checks every plan.
TEST(SchedulerPropertyTest, BudgetHoldsNobodyStarvesPagesAreConserved) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    const int budget = 8 + random() % 60;
    const SchedulerConfig config = {.cache = {.num_pages = 40, .page_size = 4},
                                    .max_running = 1 + static_cast<int>(random() % 8),
                                    .max_num_batched_tokens = budget};
    Scheduler scheduler(config);
    ScriptedModel model({.page_size = 4});
    std::map<SequenceId, int> waited;  // steps since it last got work
    SequenceId next_id = 1;
    for (int step_number = 0; step_number < 400 || !waited.empty(); ++step_number) {
      ASSERT_LT(step_number, 5000) << "it never drains, seed=" << seed;
      if (step_number < 400 && random() % 3 == 0) {
        auto sequence = std::make_unique<Sequence>(
            next_id, std::vector<TokenId>(1 + random() % 90, static_cast<TokenId>(random() % 100)),
            SamplingParams{.seed = random()}, StopParams{.max_tokens = 1 + int(random() % 40)});
        sequence->max_draft_tokens = random() % 9;
        waited[next_id++] = 0;
        scheduler.Add(std::move(sequence));
      }
      if (!waited.empty() && random() % 20 == 0) {
        auto victim = waited.begin();
        std::advance(victim, random() % waited.size());
        EXPECT_TRUE(scheduler.End(victim->first));
        waited.erase(victim);
      }
      auto step = scheduler.Schedule([&](absl::Span<const DraftLimit> limits) {
        std::vector<int> chosen;
        for (const DraftLimit& limit : limits)
          chosen.push_back(random() % (limit.max_draft_tokens + 1));
        return chosen;
      });
      ASSERT_EQ(step.has_value(), !waited.empty()) << "seed=" << seed;
      if (!step.has_value()) continue;
      for (auto& [id, steps] : waited) ++steps;
      for (size_t i = 0; i < step->plan.work.size(); ++i) {
        SequenceWork& work = step->plan.work[i];
        const Sequence* sequence = scheduler.Find(work.id);
        if (sequence->decoding()) {
          EXPECT_LE(waited[work.id], 1) << "a decoding sequence runs in every step";
        }
        waited[work.id] = 0;
        // Right drafts, then wrong ones.
        std::vector<TokenId> path = sequence->tokens;
        const int right = random() % (step->num_draft_tokens[i] + 1);
        for (int j = 0; j < step->num_draft_tokens[i]; ++j) {
          const TokenId next = testing::ScriptedNext(sequence->sampling, path, 100);
          work.draft_token_ids.push_back(j < right ? next : (next + 1) % 100);
          path.push_back(work.draft_token_ids.back());
        }
      }
      ASSERT_LE(step->plan.num_tokens(), budget) << "seed=" << seed;
      const auto result =
          model.Execute(std::make_shared<const StepPlan>(step->plan), absl::Seconds(1));
      ASSERT_TRUE(result.ok());
      for (const Progress& progress : scheduler.Apply(step->plan, *result)) {
        if (progress.stop != StopCause::kNone) waited.erase(progress.id);
      }
      scheduler.cache().CheckIntegrity();
    }
    EXPECT_EQ(scheduler.cache().num_free_pages(), 40);
    EXPECT_EQ(scheduler.num_running() + scheduler.num_waiting(), 0);
  }
}

}  // namespace
}  // namespace krait
