#include "worker/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/choices_log.h"
#include "tests/support/counting_observer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/scripted_model.h"
#include "tests/support/sink_log.h"
#include "tests/support/slow_readers.h"
#include "worker/speculative/ngram_proposer.h"

namespace krait {
namespace {

using testing::ChoicesLog;
using testing::CountingObserver;
using testing::ScriptedModel;
using testing::ScriptedNext;
using testing::SinkLog;
using testing::SlowReaders;

constexpr absl::Duration kLong = absl::Seconds(30);

// An engine over a scripted model. Steps may be held back, so that tests act in the middle of one.
class EngineTest : public ::testing::Test {
 protected:
  void Start(std::unique_ptr<Proposer> proposer = nullptr) {
    if (config_.group.runner.num_pages == 0) config_.group.runner.num_pages = 64;
    config_.group.runner.page_size = 16;
    auto engine = Engine::CreateWith(
        config_,
        [this]() -> absl::StatusOr<std::unique_ptr<StepExecutor>> {
          auto model = std::make_unique<ScriptedModel>();
          model_ = model.get();
          model->before_step = [this](const StepPlan& plan) { return BeforeStep(plan); };
          return model;
        },
        std::move(proposer), &clock_, &observer_,
        [this](const absl::Status& status) {
          fatal_ = status;
          ++num_fatal_;
        });
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  absl::Status BeforeStep(const StepPlan& plan) {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](bool* held) { return !*held; }, &held_));
    ++steps_begun_;
    if (on_step_) return on_step_(plan);
    return absl::OkStatus();
  }
  void Hold(bool held) {
    absl::MutexLock lock(&mutex_);
    held_ = held;
  }
  void AwaitSteps(int count) {
    absl::MutexLock lock(&mutex_);
    const auto reached = [&] { return steps_begun_ >= count; };
    mutex_.Await(absl::Condition(&reached));
  }

  static GenerationRequest Request(std::string id, int prompt_tokens = 5, int max_tokens = 10) {
    GenerationRequest request{.request_id = std::move(id)};
    for (int i = 0; i < prompt_tokens; ++i) request.prompt.push_back((i * 7 + prompt_tokens) % 100);
    request.sampling.seed = prompt_tokens;
    request.stop.max_tokens = max_tokens;
    return request;
  }
  std::shared_ptr<SinkLog> Submit(GenerationRequest request) {
    auto sink = std::make_shared<SinkLog>();
    const absl::Status status = engine_->Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  std::shared_ptr<ChoicesLog> SubmitChoices(GenerationRequest request, int num_choices) {
    request.num_choices = num_choices;
    auto sink = std::make_shared<ChoicesLog>(num_choices);
    const absl::Status status = engine_->Submit(std::move(request), sink);
    EXPECT_TRUE(status.ok()) << status;
    return sink;
  }
  // Its reader takes nothing more after every `events` events, until it is resumed.
  std::shared_ptr<SinkLog> SubmitSlow(SlowReaders& readers, const GenerationRequest& request,
                                      int events) {
    auto log = std::make_shared<SinkLog>();
    const absl::Status status =
        engine_->Submit(request, readers.Add(request.request_id, events, log));
    EXPECT_TRUE(status.ok()) << status;
    return log;
  }
  // The engine has looked at its requests after now.
  void AwaitAnotherRequest(const std::string& id) {
    auto sink = Submit(Request(id, 3, 4));
    ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
    EXPECT_EQ(sink->token_ids, Expected(Request(id, 3, 4)));
  }
  static std::vector<TokenId> Expected(GenerationRequest request, int choice) {
    request.sampling.choice = choice;
    return Expected(request);
  }
  static std::vector<TokenId> Expected(const GenerationRequest& request) {
    std::vector<TokenId> path = request.prompt;
    for (int i = 0; i < request.stop.max_tokens; ++i) {
      path.push_back(ScriptedNext(request.sampling, path, 100));
    }
    return {path.begin() + request.prompt.size(), path.end()};
  }
  void ExpectNothingLeft() {
    EXPECT_TRUE(engine_->WaitIdle(kLong));
    const EngineLoad load = engine_->Load();
    EXPECT_EQ(load.running + load.waiting, 0);
    EXPECT_EQ(load.pages_used, 0);
    EXPECT_EQ(load.queued_tokens, 0);
  }

  EngineConfig config_;
  FakeClock clock_;
  // Once it has reached `expected`.
  int64_t NumSteps(int64_t expected) const {
    return observer_.CountsOnce([&](const auto& counts) { return counts.steps >= expected; }).steps;
  }
  int64_t NumFinished(int64_t expected) const {
    const auto finished = [](const auto& counts) {
      const auto found = counts.finished.find(absl::StatusCode::kOk);
      return found == counts.finished.end() ? int64_t{0} : found->second;
    };
    return finished(observer_.CountsOnce([&](const auto& c) { return finished(c) >= expected; }));
  }

  CountingObserver observer_;
  absl::Mutex mutex_;
  bool held_ = false;
  int steps_begun_ = 0;
  std::function<absl::Status(const StepPlan&)> on_step_;  // set before Start
  absl::Status fatal_;
  std::atomic<int> num_fatal_ = 0;
  ScriptedModel* model_ = nullptr;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, GeneratesWhatTheModelSays) {
  Start();
  std::vector<std::shared_ptr<SinkLog>> sinks;
  for (int i = 1; i <= 20; ++i) sinks.push_back(Submit(Request(absl::StrCat(i), i, 2 * i)));
  for (int i = 1; i <= 20; ++i) {
    ASSERT_TRUE(sinks[i - 1]->ended.WaitForNotificationWithTimeout(kLong));
    EXPECT_TRUE(sinks[i - 1]->status.ok());
    EXPECT_EQ(sinks[i - 1]->finish_reason, FinishReason::kLength);
    EXPECT_EQ(sinks[i - 1]->token_ids, Expected(Request(absl::StrCat(i), i, 2 * i)));
  }
  ExpectNothingLeft();
  EXPECT_EQ(NumFinished(20), 20);
  EXPECT_EQ(observer_.counts().first_tokens, 20);
}

// Work done between two tokens of one stream.
struct Gap {
  int steps = 0;
  int tokens = 0;
};

// Largest gaps of the streams that decode, as the engine's plans come by.
class GapRecorder {
 public:
  void OnPlan(const StepPlan& plan) {
    for (auto& [id, gap] : gaps_) gap = {gap.steps + 1, gap.tokens + plan.num_tokens()};
    for (const SequenceWork& work : plan.work) {
      if (work.path == ComputePath::kDecode) {
        const Gap& gap = gaps_.at(work.id);
        largest.steps = std::max(largest.steps, gap.steps);
        largest.tokens = std::max(largest.tokens, gap.tokens);
      }
      gaps_[work.id] = {};
    }
    for (SequenceId id : plan.ends) gaps_.erase(id);
  }
  Gap largest;

 private:
  std::map<SequenceId, Gap> gaps_;
};

TEST_F(EngineTest, ALongPromptDelaysRunningStreamsByNoMoreThanOneChunk) {
  for (const bool with_prompt : {false, true}) {
    GapRecorder recorder;
    on_step_ = [&recorder](const StepPlan& plan) {
      recorder.OnPlan(plan);
      return absl::OkStatus();
    };
    config_.group.runner.num_pages = 200;
    config_.max_num_batched_tokens = 256;
    Start();
    Hold(true);
    std::vector<std::shared_ptr<SinkLog>> sinks;
    for (int i = 1; i <= 4; ++i) sinks.push_back(Submit(Request(absl::StrCat(i), i, 100)));
    if (with_prompt) sinks.push_back(Submit(Request("long", 1500, 10)));
    Hold(false);
    for (auto& sink : sinks) ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
    ExpectNothingLeft();
    engine_.reset();
    EXPECT_EQ(recorder.largest.steps, 1) << "a stream draws in every step";
    if (with_prompt) {
      EXPECT_EQ(recorder.largest.tokens, 256) << "the chunk and the streams' own rows";
    } else {
      EXPECT_LE(recorder.largest.tokens, 16);
    }
  }
}

TEST_F(EngineTest, AStopTokenEndsTheStream) {
  Start();
  GenerationRequest request = Request("a", 5, 30);
  const std::vector<TokenId> all = Expected(request);
  request.stop.stop_token_ids = {all[3]};
  auto sink = Submit(request);
  ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(sink->finish_reason, FinishReason::kStop);
  EXPECT_EQ(sink->token_ids.back(), all[3]);
  EXPECT_LE(sink->token_ids.size(), 4u);
}

TEST_F(EngineTest, RefusesWhatCouldDoHarmAndNamesTheField) {
  config_.max_context_tokens = 100;
  Start();
  const std::pair<const char*, std::function<void(GenerationRequest&)>> cases[] = {
      {"request_id", [](GenerationRequest& r) { r.request_id.clear(); }},
      {"prompt", [](GenerationRequest& r) { r.prompt.clear(); }},
      {"prompt",
       [](GenerationRequest& r) {
         r.prompt = {1, -1};
       }},
      {"prompt", [](GenerationRequest& r) { r.prompt = {100}; }},
      {"prompt", [](GenerationRequest& r) { r.prompt.assign(100, 1); }},
      {"max_tokens", [](GenerationRequest& r) { r.stop.max_tokens = 0; }},
      {"max_tokens", [](GenerationRequest& r) { r.stop.max_tokens = 96; }},
      {"stop_token_ids", [](GenerationRequest& r) { r.stop.stop_token_ids = {100}; }},
      {"temperature", [](GenerationRequest& r) { r.sampling.temperature = std::nanf(""); }},
      {"top_k", [](GenerationRequest& r) { r.sampling.top_k = 101; }},
      {"top_p", [](GenerationRequest& r) { r.sampling.top_p = 0; }},
      {"min_p", [](GenerationRequest& r) { r.sampling.min_p = 1.5f; }},
      {"repetition_penalty", [](GenerationRequest& r) { r.sampling.repetition_penalty = 0; }},
      {"presence_penalty", [](GenerationRequest& r) { r.sampling.presence_penalty = 3; }},
      {"logprobs", [](GenerationRequest& r) { r.sampling.num_logprobs = 21; }},
      {"logit_bias",
       [](GenerationRequest& r) {
         r.sampling.logit_bias = {{100, 1}};
       }},
      {"logit_bias",
       [](GenerationRequest& r) {
         r.sampling.logit_bias = {{-1, 1}};
       }},
      {"logit_bias",
       [](GenerationRequest& r) {
         r.sampling.logit_bias = {{5, std::nanf("")}};
       }},
      {"logit_bias",
       [](GenerationRequest& r) {
         r.sampling.logit_bias = {{5, -100.5f}};
       }},
      {"logit_bias",
       [](GenerationRequest& r) {
         r.sampling.logit_bias = {{5, 1}, {5, 2}};
       }},
      {"logit_bias", [](GenerationRequest& r) { r.sampling.logit_bias.resize(301); }},
      {"min_tokens", [](GenerationRequest& r) { r.sampling.min_tokens = -1; }},
      {"min_tokens", [](GenerationRequest& r) { r.sampling.min_tokens = 11; }},
      {"stop_token_ids", [](GenerationRequest& r) { r.stop.stop_token_ids.assign(65, 1); }},
      {"min_tokens",
       [](GenerationRequest& r) {
         r.sampling.min_tokens = 1;
         r.stop.eos_ids.resize(100);
         std::iota(r.stop.eos_ids.begin(), r.stop.eos_ids.end(), 0);
       }},
      {"n", [](GenerationRequest& r) { r.num_choices = 0; }},
      {"n", [](GenerationRequest& r) { r.num_choices = 9; }},
      {"max_draft_tokens", [](GenerationRequest& r) { r.max_draft_tokens = -1; }}};
  for (const auto& [field, damage] : cases) {
    GenerationRequest request = Request("a");
    damage(request);
    const absl::Status status = engine_->Submit(request, std::make_shared<SinkLog>());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_EQ(status.message().find(field), 0u) << status;
  }
  GenerationRequest full = Request("a");
  full.stop.max_tokens = 95;
  full.stop.stop_token_ids.assign(64, 99);
  full.sampling.min_tokens = 95;
  full.sampling.logit_bias = {{0, -100}, {99, 100}};
  full.sampling.num_logprobs = 20;
  EXPECT_TRUE(engine_->Submit(full, std::make_shared<ChoicesLog>(1)).ok());
  full.request_id = "b";
  full.num_choices = 8;
  full.stop.max_tokens = 10;
  full.sampling.min_tokens = 10;
  EXPECT_TRUE(engine_->Submit(full, std::make_shared<ChoicesLog>(8)).ok());
}

// Told of its end, submits the same id from another thread and then says what a call does that does
// not know of the end yet: that it was cancelled.
class ResubmittingSink final : public TokenSink {
 public:
  explicit ResubmittingSink(std::function<void()> submit, std::function<void()> cancel)
      : submit_(std::move(submit)), cancel_(std::move(cancel)) {}
  ~ResubmittingSink() override { submitter_.join(); }

  void OnTokens(TokenEvent) override {}
  void OnEnd(const absl::Status& status) override {
    EXPECT_TRUE(status.ok()) << status;
    submitter_ = std::thread([this] {
      submit_();
      submitted_.Notify();
    });
    submitted_.WaitForNotificationWithTimeout(absl::Milliseconds(100));
    EXPECT_FALSE(submitted_.HasBeenNotified()) << "the id has two requests";
    cancel_();
  }

 private:
  const std::function<void()> submit_, cancel_;
  std::thread submitter_;
  absl::Notification submitted_;
};

TEST_F(EngineTest, AnIdIsFreeOnceItsEndWasDelivered) {
  Start();
  std::shared_ptr<SinkLog> second;
  {
    auto first = std::make_shared<ResubmittingSink>(
        [&] { second = Submit(Request("a", 4, 8)); },
        [&] { engine_->Abort("a", absl::CancelledError("late")); });
    ASSERT_TRUE(engine_->Submit(Request("a", 5, 3), first).ok());
    EXPECT_TRUE(engine_->WaitIdle(kLong));
  }  // the submitter has come back
  ASSERT_NE(second, nullptr);
  ASSERT_TRUE(second->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_TRUE(second->status.ok()) << second->status;
  EXPECT_EQ(second->token_ids, Expected(Request("a", 4, 8)));
  ExpectNothingLeft();
}

TEST_F(EngineTest, EachChoiceStreamsItsOwnAndTheRequestEndsWithTheLast) {
  Start();
  GenerationRequest request = Request("a", 5, 30);
  // The second choice stops early, the others run on.
  request.stop.stop_token_ids = {Expected(request, 1)[3]};
  auto sink = SubmitChoices(request, 4);
  auto neighbour = Submit(Request("b", 7, 20));
  ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  size_t ended_early = 0;
  for (int choice = 0; choice < 4; ++choice) {
    std::vector<TokenId> expected = Expected(request, choice);
    const auto stop = std::find(expected.begin(), expected.end(), request.stop.stop_token_ids[0]);
    if (stop != expected.end()) expected.erase(stop + 1, expected.end());
    EXPECT_EQ(sink->choices[choice].token_ids, expected) << choice;
    EXPECT_EQ(sink->choices[choice].finish_reason,
              expected.size() < 30 ? FinishReason::kStop : FinishReason::kLength);
    ended_early += expected.size() < 30;
  }
  EXPECT_TRUE(ended_early >= 1 && ended_early < 4);
  ASSERT_TRUE(neighbour->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(neighbour->token_ids, Expected(Request("b", 7, 20)));
  ExpectNothingLeft();
  EXPECT_EQ(NumFinished(2), 2);
  EXPECT_EQ(observer_.counts().first_tokens, 2);
}

TEST_F(EngineTest, ChoicesStartTogetherOrNotAtAll) {
  config_.max_running = 4;
  std::vector<size_t> starts;
  on_step_ = [&](const StepPlan& plan) {
    if (!plan.starts.empty()) starts.push_back(plan.starts.size());
    return absl::OkStatus();
  };
  Start();
  Hold(true);
  auto first = Submit(Request("a", 5, 20));
  auto second = Submit(Request("b", 5, 25));
  auto choices = SubmitChoices(Request("c"), 3);  // waits until a has ended: two would fit
  auto behind = Submit(Request("d"));             // does not overtake
  Hold(false);
  ASSERT_TRUE(choices->ended.WaitForNotificationWithTimeout(kLong));
  ASSERT_TRUE(behind->ended.WaitForNotificationWithTimeout(kLong));
  ExpectNothingLeft();
  engine_.reset();
  std::map<size_t, int> counts;
  for (size_t count : starts) ++counts[count];
  EXPECT_EQ(counts[3] + counts[4], 1) << "the three in one plan";
  for (int choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(choices->choices[choice].token_ids, Expected(Request("c"), choice));
  }
}

// 64 pages of 16 tokens: while the first holds 30, eight times 5 are not free, six times 5 would
// be.
TEST_F(EngineTest, PagesAreSetAsideForAllChoicesOrForNone) {
  Start();
  Hold(true);
  auto first = Submit(Request("a", 5, 475));
  auto choices = SubmitChoices(Request("b", 5, 75), 8);
  Hold(false);
  ASSERT_TRUE(choices->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_TRUE(first->ended.HasBeenNotified()) << "nothing of b fits before";
  EXPECT_TRUE(choices->status.ok());
  ExpectNothingLeft();
}

TEST_F(EngineTest, MoreChoicesThanCouldEverRunAreRefused) {
  config_.max_running = 3;
  Start();
  GenerationRequest request = Request("a");
  request.num_choices = 4;
  const absl::Status status = engine_->Submit(request, std::make_shared<ChoicesLog>(4));
  EXPECT_EQ(status.message(), "n: must be at most max_running = 3, got 4");
  // 3 x 22 pages are two too many.
  request = Request("a", 5, 340);
  request.num_choices = 3;
  EXPECT_EQ(engine_->Submit(request, std::make_shared<ChoicesLog>(3)).code(),
            absl::StatusCode::kInvalidArgument);
  request.stop.max_tokens = 331;
  EXPECT_TRUE(engine_->Submit(request, std::make_shared<ChoicesLog>(3)).ok());
}

TEST_F(EngineTest, ChoicesCountTowardsTheQueue) {
  config_.max_running = 3;
  config_.max_waiting = 2;
  Start();
  Hold(true);
  auto first = SubmitChoices(Request("a"), 3);
  GenerationRequest request = Request("b");
  request.num_choices = 3;
  EXPECT_EQ(engine_->Submit(request, std::make_shared<ChoicesLog>(3)).code(),
            absl::StatusCode::kResourceExhausted);
  auto second = SubmitChoices(Request("c"), 2);
  EXPECT_EQ(engine_->Submit(Request("d"), std::make_shared<SinkLog>()).code(),
            absl::StatusCode::kResourceExhausted);
  Hold(false);
  ASSERT_TRUE(second->ended.WaitForNotificationWithTimeout(kLong));
  ExpectNothingLeft();
}

TEST_F(EngineTest, AStoppedChoiceDrawsNoMoreAndItsSiblingsGoOn) {
  Start();
  Hold(true);
  const GenerationRequest request = Request("a", 5, 200);
  auto sink = std::make_shared<ChoicesLog>(3);
  sink->choices[1].stopped = true;
  GenerationRequest submitted = request;
  submitted.num_choices = 3;
  ASSERT_TRUE(engine_->Submit(submitted, sink).ok());
  engine_->StopChoice("a", 1);
  engine_->StopChoice("a", 1);
  for (int choice : {-1, 3}) engine_->StopChoice("a", choice);
  engine_->StopChoice("nobody", 0);
  Hold(false);
  ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  EXPECT_LE(sink->choices[1].token_ids.size(), 1u) << "within one step";
  for (int choice : {0, 2}) {
    EXPECT_EQ(sink->choices[choice].token_ids, Expected(request, choice));
  }
  ExpectNothingLeft();
}

TEST_F(EngineTest, TheLastChoiceToBeStoppedEndsTheRequest) {
  Start();
  Hold(true);
  GenerationRequest request = Request("a", 5, 400);
  request.num_choices = 2;
  auto sink = std::make_shared<ChoicesLog>(2);
  for (auto& choice : sink->choices) choice.stopped = true;
  ASSERT_TRUE(engine_->Submit(request, sink).ok());
  engine_->Pause("a");
  Hold(false);
  engine_->StopChoice("a", 0);
  engine_->StopChoice("a", 1);
  ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_TRUE(sink->status.ok()) << sink->status;
  ExpectNothingLeft();
  EXPECT_EQ(NumFinished(1), 1);
}

TEST_F(EngineTest, WhatEndsOneChoiceEarlyEndsAllAndNoNeighbour) {
  for (const std::string cause : {"abort", "deadline", "poison"}) {
    SCOPED_TRACE(cause);
    engine_.reset();
    Start();
    Hold(true);
    GenerationRequest request = Request("a", 5, 200);
    if (cause == "deadline") request.deadline = clock_.Now() + absl::Seconds(1);
    auto sink = SubmitChoices(request, 3);
    auto neighbour = Submit(Request("b", 7, 60));
    if (cause == "abort") engine_->Abort("a", absl::CancelledError("left"));
    if (cause == "deadline") clock_.Advance(absl::Seconds(2));
    if (cause == "poison") model_->poisoned = 2;  // ids count from 1: the second choice
    Hold(false);
    ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
    EXPECT_EQ(sink->status.code(), cause == "abort"      ? absl::StatusCode::kCancelled
                                   : cause == "deadline" ? absl::StatusCode::kDeadlineExceeded
                                                         : absl::StatusCode::kInternal);
    for (int choice = 0; choice < 3; ++choice) {
      const auto& got = sink->choices[choice].token_ids;
      const std::vector<TokenId> expected = Expected(request, choice);
      EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin())) << "a prefix";
    }
    ASSERT_TRUE(neighbour->ended.WaitForNotificationWithTimeout(kLong));
    EXPECT_EQ(neighbour->token_ids, Expected(Request("b", 7, 60)));
    ExpectNothingLeft();
  }
}

TEST_F(EngineTest, RefusesWhatTheCacheCouldNeverHold) {
  Start();  // 1,024 tokens of pages, 4,096 of context
  EXPECT_EQ(engine_->Submit(Request("a", 25, 1000), std::make_shared<SinkLog>()).code(),
            absl::StatusCode::kInvalidArgument);
  Submit(Request("b", 24, 1000));
}

TEST_F(EngineTest, ALiveIdIsRefusedAndAnEndedOneMayReturn) {
  Start();
  Hold(true);
  auto first = Submit(Request("a"));
  EXPECT_EQ(engine_->Submit(Request("a"), std::make_shared<SinkLog>()).code(),
            absl::StatusCode::kAlreadyExists);
  Hold(false);
  ASSERT_TRUE(first->ended.WaitForNotificationWithTimeout(kLong));
  auto second = Submit(Request("a"));
  ASSERT_TRUE(second->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(second->token_ids, first->token_ids);
}

TEST_F(EngineTest, TheQueueIsBounded) {
  config_.max_running = 2;
  config_.max_waiting = 3;
  Start();
  Hold(true);
  std::vector<std::shared_ptr<SinkLog>> sinks;
  for (int i = 0; i < 5; ++i) sinks.push_back(Submit(Request(absl::StrCat(i))));
  EXPECT_EQ(engine_->Submit(Request("x"), std::make_shared<SinkLog>()).code(),
            absl::StatusCode::kResourceExhausted);
  Hold(false);
  for (auto& sink : sinks) ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
  ExpectNothingLeft();
}

TEST_F(EngineTest, AbortEndsWaitingAndRunningRequestsAndFreesTheirPages) {
  config_.max_running = 1;
  Start();
  Hold(true);
  auto running = Submit(Request("running", 5, 900));
  auto waiting = Submit(Request("waiting"));
  engine_->Abort("running", absl::CancelledError("client left"));
  engine_->Abort("waiting", absl::CancelledError("client left"));
  engine_->Abort("unknown", absl::CancelledError("nobody"));
  Hold(false);
  ASSERT_TRUE(running->ended.WaitForNotificationWithTimeout(kLong));
  ASSERT_TRUE(waiting->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(running->status.message(), "client left");
  EXPECT_EQ(waiting->status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(waiting->token_ids.empty());
  EXPECT_LE(running->token_ids.size(), 1u) << "within one step";
  ExpectNothingLeft();
}

TEST_F(EngineTest, APausedRequestDrawsNothingAndItsNeighboursGoOn) {
  Start();
  SlowReaders readers(engine_.get());
  auto slow = SubmitSlow(readers, Request("slow", 5, 40), 3);
  readers.AwaitPaused(1);
  AwaitAnotherRequest("neighbour");
  EXPECT_EQ(slow->token_ids.size(), 3u);
  EXPECT_FALSE(slow->ended.HasBeenNotified());
  engine_->Resume("nobody");
  engine_->Pause("nobody");
  while (readers.ResumeOne(1)) {
  }
  ASSERT_TRUE(slow->ended.HasBeenNotified());
  EXPECT_EQ(slow->token_ids, Expected(Request("slow", 5, 40)));
  EXPECT_EQ(readers.num_pauses(), 13);
  ExpectNothingLeft();
}

// Steps come one after another, so a paused request without neighbours must not keep them coming.
TEST_F(EngineTest, NoStepIsRunWhileAllArePaused) {
  Start();
  SlowReaders readers(engine_.get());
  auto slow = SubmitSlow(readers, Request("slow", 5, 40), 3);
  readers.AwaitPaused(1);
  AwaitAnotherRequest("neighbour");
  engine_->Abort("slow", absl::CancelledError("over"));
  ASSERT_TRUE(slow->ended.WaitForNotificationWithTimeout(kLong));
  engine_.reset();
  EXPECT_EQ(NumSteps(3 + 4), 3 + 4);
}

TEST_F(EngineTest, APausedRequestEndsAfterItsLimitAndNamesIt) {
  config_.slow_reader_timeout = absl::Seconds(30);
  Start();
  SlowReaders readers(engine_.get());
  auto slow = SubmitSlow(readers, Request("slow", 5, 40), 3);
  readers.AwaitPaused(1);
  AwaitAnotherRequest("at once");
  clock_.Advance(absl::Seconds(30) - absl::Milliseconds(1));
  AwaitAnotherRequest("just before");
  EXPECT_FALSE(slow->ended.HasBeenNotified());
  // Something was read: the time begins anew.
  engine_->Pause("slow");
  AwaitAnotherRequest("anew");
  clock_.Advance(absl::Seconds(30) - absl::Milliseconds(1));
  AwaitAnotherRequest("just before again");
  EXPECT_FALSE(slow->ended.HasBeenNotified());
  clock_.Advance(absl::Milliseconds(1));
  ASSERT_TRUE(slow->ended.WaitForNotificationWithTimeout(kLong)) << "nothing else is running";
  EXPECT_EQ(slow->status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(slow->status.message(), "slow_reader_timeout_ms: nothing was read for 30000 ms");
  EXPECT_EQ(slow->token_ids.size(), 3u);
  ExpectNothingLeft();
}

TEST_F(EngineTest, APausedRequestCanBeAbortedExpiresAndHoldsUpADrain) {
  for (const std::string cause : {"abort", "deadline", "drain", "stop"}) {
    SCOPED_TRACE(cause);
    engine_.reset();
    Start();
    SlowReaders readers(engine_.get());
    GenerationRequest request = Request("slow", 5, 20);
    if (cause == "deadline") request.deadline = clock_.Now() + absl::Seconds(1);
    auto slow = SubmitSlow(readers, request, 3);
    readers.AwaitPaused(1);
    absl::StatusCode expected = absl::StatusCode::kOk;
    if (cause == "abort") {
      engine_->Abort("slow", absl::CancelledError("left"));
      expected = absl::StatusCode::kCancelled;
    } else if (cause == "deadline") {
      clock_.Advance(absl::Seconds(1));
      expected = absl::StatusCode::kDeadlineExceeded;
    } else if (cause == "drain") {
      engine_->Drain();
      EXPECT_FALSE(engine_->WaitIdle(absl::ZeroDuration()));
      while (readers.ResumeOne(1)) {
      }
    } else {
      engine_.reset();
      expected = absl::StatusCode::kUnavailable;
    }
    ASSERT_TRUE(slow->ended.WaitForNotificationWithTimeout(kLong));
    EXPECT_EQ(slow->status.code(), expected);
    EXPECT_EQ(slow->token_ids.size(), expected == absl::StatusCode::kOk ? 20u : 3u);
    if (engine_ != nullptr) ExpectNothingLeft();
  }
}

TEST_F(EngineTest, ChoicesArePausedTogether) {
  Start();
  Hold(true);
  auto choices = SubmitChoices(Request("a", 5, 40), 3);
  engine_->Pause("a");  // before it was even admitted
  auto neighbour = Submit(Request("b", 6, 40));
  Hold(false);
  ASSERT_TRUE(neighbour->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_FALSE(choices->ended.HasBeenNotified());
  for (const auto& choice : choices->choices) EXPECT_LE(choice.token_ids.size(), 1u);
  engine_->Resume("a");
  ASSERT_TRUE(choices->ended.WaitForNotificationWithTimeout(kLong));
  for (int choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(choices->choices[choice].token_ids, Expected(Request("a", 5, 40), choice));
  }
  ExpectNothingLeft();
}

// A reader that never comes back costs the others nothing: 64 pages, of which the slow one's 40 are
// needed.
TEST_F(EngineTest, PagesOfAPausedRequestGoToOthers) {
  Start();
  SlowReaders readers(engine_.get());
  auto slow = SubmitSlow(readers, Request("slow", 5, 640), 3);
  readers.AwaitPaused(1);
  auto other = Submit(Request("other", 5, 640));
  ASSERT_TRUE(other->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(other->token_ids, Expected(Request("other", 5, 640)));
  while (readers.ResumeOne(1)) {
  }
  EXPECT_EQ(slow->token_ids, Expected(Request("slow", 5, 640)));
  ExpectNothingLeft();
}

TEST_F(EngineTest, ADeadlineHoldsInTheQueueAndBetweenSteps) {
  config_.max_running = 1;
  const absl::Duration start = clock_.Now();
  on_step_ = [this](const StepPlan&) {
    clock_.Advance(absl::Seconds(1));
    return absl::OkStatus();
  };
  Start();
  const absl::Duration now = clock_.Now();
  EXPECT_EQ(now, start + absl::Seconds(1)) << "the warm-up step";
  Hold(true);
  GenerationRequest first = Request("first", 5, 900);
  first.deadline = now + absl::Seconds(10);
  GenerationRequest second = Request("second", 5, 900);
  second.deadline = now + absl::Seconds(4);
  auto running = Submit(first);
  auto waiting = Submit(second);
  Hold(false);
  ASSERT_TRUE(running->ended.WaitForNotificationWithTimeout(kLong));
  ASSERT_TRUE(waiting->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(running->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(waiting->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(waiting->token_ids.empty());
  EXPECT_EQ(running->token_ids.size(), 10u) << "one a second";
  ExpectNothingLeft();
}

TEST_F(EngineTest, AFailedStepEndsEverythingOnce) {
  on_step_ = [](const StepPlan& plan) {
    return plan.step_id < 5 ? absl::OkStatus() : absl::DeadlineExceededError("step 5");
  };
  config_.max_running = 2;
  Start();
  Hold(true);
  std::vector<std::shared_ptr<SinkLog>> sinks;
  for (int i = 0; i < 4; ++i) sinks.push_back(Submit(Request(absl::StrCat(i), 5, 50)));
  Hold(false);
  for (auto& sink : sinks) {
    ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
    EXPECT_EQ(sink->status.code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(sinks[0]->token_ids.size(), 3u) << "steps 2 to 4";
  EXPECT_EQ(engine_->Submit(Request("late"), std::make_shared<SinkLog>()).code(),
            absl::StatusCode::kUnavailable);
  ExpectNothingLeft();
  engine_.reset();
  EXPECT_EQ(num_fatal_, 1);
  EXPECT_EQ(fatal_.message(), "step 5");
}

TEST_F(EngineTest, LogitsThatAreNotFiniteEndOnlyTheirRequest) {
  Start();
  Hold(true);
  std::vector<std::shared_ptr<SinkLog>> sinks;
  for (int i = 0; i < 3; ++i) sinks.push_back(Submit(Request(absl::StrCat(i), 5 + i)));
  model_->poisoned = 2;  // the second request; the engine thread waits in a step or for work
  Hold(false);
  for (auto& sink : sinks) ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(sinks[1]->status.code(), absl::StatusCode::kInternal);
  for (int i : {0, 2}) EXPECT_EQ(sinks[i]->token_ids, Expected(Request("", 5 + i)));
  EXPECT_TRUE(engine_->WaitIdle(kLong));
  EXPECT_EQ(observer_.counts().non_finite, 1);
  ExpectNothingLeft();
}

TEST_F(EngineTest, DrainRefusesTheNewAndFinishesTheOld) {
  Start();
  Hold(true);
  auto sink = Submit(Request("a"));
  engine_->Drain();
  EXPECT_EQ(engine_->Submit(Request("b"), std::make_shared<SinkLog>()).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_FALSE(engine_->WaitIdle(absl::ZeroDuration()));
  Hold(false);
  EXPECT_TRUE(engine_->WaitIdle(kLong));
  EXPECT_TRUE(sink->status.ok());
}

TEST_F(EngineTest, DestructionEndsWhatIsLive) {
  on_step_ = [](const StepPlan&) { return absl::OkStatus(); };
  Start();
  Hold(true);
  auto sink = Submit(Request("a", 5, 900));
  std::thread destroyer([this] { engine_.reset(); });
  Hold(false);
  destroyer.join();
  ASSERT_TRUE(sink->ended.HasBeenNotified());
  EXPECT_TRUE(sink->status.ok() || sink->status.code() == absl::StatusCode::kUnavailable);
  EXPECT_EQ(num_fatal_, 0);
}

TEST_F(EngineTest, AnIdleEngineRunsNoSteps) {
  Start();
  auto sink = Submit(Request("a", 5, 4));
  ASSERT_TRUE(sink->ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_TRUE(engine_->WaitIdle(kLong));
  engine_.reset();
  EXPECT_EQ(NumSteps(4), 4);
}

TEST_F(EngineTest, CreationFailsWithTheExecutorsError) {
  config_.group.runner.num_pages = 4;
  const auto engine = Engine::CreateWith(
      config_,
      []() -> absl::StatusOr<std::unique_ptr<StepExecutor>> {
        return absl::InvalidArgumentError("model.gguf: truncated");
      },
      nullptr, &clock_, &observer_, nullptr);
  EXPECT_EQ(engine.status().message(), "model.gguf: truncated");
}

TEST_F(EngineTest, RefusesAStepTooSmallForItsSequences) {
  config_.max_num_batched_tokens = config_.max_running - 1;
  config_.group.runner.num_pages = 4;
  const auto engine = Engine::CreateWith(config_, nullptr, nullptr, &clock_, &observer_, nullptr);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine.status().message().find("max_num_batched_tokens"), 0u);
}

// Right drafts, wrong drafts, nothing, nonsense, in random order.
class ChaoticProposer final : public Proposer {
 public:
  void Begin(SequenceId, absl::Span<const TokenId>, int, const SamplingParams& p) override {}
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration) override {
    std::vector<std::vector<TokenId>> drafts(random_() % 5 == 0 ? random_() % 4 : rows.size());
    for (std::vector<TokenId>& list : drafts) {
      list.resize(random_() % 6);
      for (TokenId& id : list) id = static_cast<TokenId>(random_() % 130) - 10;
    }
    return drafts;
  }
  void Release(SequenceId) override {}
  ProposalOutcome last_outcome() const override { return {}; }
  std::string_view disabled_reason() const override { return ""; }

 private:
  std::mt19937 random_{7};
};

TEST_F(EngineTest, AProposerThatTalksNonsenseChangesNothing) {
  config_.fixed_draft_tokens = true;
  Start(std::make_unique<ChaoticProposer>());
  std::vector<std::shared_ptr<SinkLog>> sinks;
  for (int i = 1; i <= 12; ++i) sinks.push_back(Submit(Request(absl::StrCat(i), i, 40)));
  for (int i = 1; i <= 12; ++i) {
    ASSERT_TRUE(sinks[i - 1]->ended.WaitForNotificationWithTimeout(kLong));
    EXPECT_EQ(sinks[i - 1]->token_ids, Expected(Request("", i, 40)));
  }
  EXPECT_TRUE(engine_->WaitIdle(kLong));
  EXPECT_GT(observer_.counts().malformed, 10);
  EXPECT_GT(observer_.counts().draft_tokens, 10);
}

TEST_F(EngineTest, SubmittersAndCancellersMayRace) {
  config_.max_running = 6;
  config_.max_waiting = 1000;
  Start(std::make_unique<NgramProposer>());
  std::vector<std::shared_ptr<SinkLog>> sinks(400);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = t * 100; i < t * 100 + 100; ++i) {
        sinks[i] = Submit(Request(absl::StrCat(i), 1 + random() % 30, 1 + random() % 30));
        if (random() % 3 == 0) {
          engine_->Abort(absl::StrCat(t * 100 + random() % (i - t * 100 + 1)),
                         absl::CancelledError(""));
        }
        engine_->Load();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectNothingLeft();
  for (const auto& sink : sinks) {
    EXPECT_TRUE(sink->ended.HasBeenNotified());
    EXPECT_TRUE(sink->status.ok() || sink->status.code() == absl::StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace krait
