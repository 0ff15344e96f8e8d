// A whole coordinator in this process, real gRPC on both sides, workers that play scripts, and a
// clock that moves only when told to.

#include "coordinator/server/generation_session.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/field_error.h"
#include "common/grpc_status.h"
#include "coordinator/server/coordinator.h"
#include "tests/support/bad_sampling.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_worker.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One id a printable byte: id = byte - 32; and an end-of-sequence id behind them.
constexpr int kEos = 95;

Vocabulary PrintableBytes() {
  Vocabulary vocabulary;
  for (char byte = '!'; byte <= '~'; ++byte) vocabulary.pieces.push_back(std::string(1, byte));
  vocabulary.pieces.insert(vocabulary.pieces.begin(), "\xc4\xa0");  // a space, in GPT-2's alphabet
  vocabulary.pieces.push_back("<eos>");
  vocabulary.kinds.assign(vocabulary.pieces.size(), TokenKind::kNormal);
  vocabulary.kinds.back() = TokenKind::kControl;
  vocabulary.model = "gpt2";
  vocabulary.pre_tokenizer = "gpt-2";
  vocabulary.eos_ids = {kEos};
  vocabulary.source = "test";
  return vocabulary;
}

std::vector<int> Ids(const std::string& text) {
  std::vector<int> ids;
  for (char byte : text) ids.push_back(byte - ' ');
  return ids;
}

struct Outcome {
  std::string text;  // of choice 0
  std::vector<int> token_ids;
  std::map<int, std::vector<int>> choices;  // all, token ids
  std::vector<v1::GenerateResponse> chunks;
  grpc::Status status;
  v1::GenerateResponse last() const {
    return chunks.empty() ? v1::GenerateResponse() : chunks.back();
  }
};

class GenerationSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.set_model_path("unused");
    config_.set_model_name("model");
    config_.set_routing_policy("round_robin");
  }
  void TearDown() override { ExpectIdle(); }

  void StartCoordinator() {
    Coordinator::Parts parts;
    parts.options = MakeCoordinatorOptions(config_).value();
    parts.model = TextModel::Create(PrintableBytes()).value();
    digest_ = parts.model->digest();
    parts.clock = &clock_;
    parts.workers = MakeGrpcWorkerClientFactory();
    parts.background = false;
    coordinator_ = Coordinator::Start(std::move(parts)).value();
    stub_ = v1::GenerationService::NewStub(grpc::CreateChannel(
        coordinator_->grpc_server().address(), grpc::InsecureChannelCredentials()));
  }

  void MakeReady(FakeWorker& worker, int max_running = 0, int max_waiting = 1000) {
    const uint64_t epoch = coordinator_->registry()
                               .Register(worker.Registration("model", digest_), clock_.Now())
                               .value();
    internal::v1::HeartbeatRequest beat;
    beat.set_name(worker.Registration("model", digest_).worker().name());
    beat.set_epoch(epoch);
    beat.set_state(v1::WORKER_STATE_READY);
    beat.mutable_load()->set_max_running(max_running);
    beat.mutable_load()->set_max_waiting(max_waiting);
    ASSERT_TRUE(coordinator_->registry().Heartbeat(beat, clock_.Now()).ok());
  }

  v1::GenerateRequest Request(int max_tokens = 20) {
    v1::GenerateRequest request;
    request.set_prompt("Hi");
    request.mutable_sampling()->set_max_tokens(max_tokens);
    return request;
  }

  using OnChunk = std::function<void(grpc::ClientContext&)>;
  Outcome Generate(const v1::GenerateRequest& request, const OnChunk& on_chunk = nullptr,
                   absl::Duration timeout = absl::Seconds(20)) {
    Outcome outcome;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
    const auto reader = stub_->Generate(&context, request);
    for (v1::GenerateResponse chunk; reader->Read(&chunk);) {
      auto& choice = outcome.choices[chunk.index()];
      EXPECT_EQ(chunk.first_index(), static_cast<int>(choice.size()));
      choice.insert(choice.end(), chunk.token_ids().begin(), chunk.token_ids().end());
      outcome.chunks.push_back(chunk);
      if (on_chunk) on_chunk(context);
      if (chunk.index() != 0) continue;
      outcome.text += chunk.text();
      outcome.token_ids.insert(outcome.token_ids.end(), chunk.token_ids().begin(),
                               chunk.token_ids().end());
    }
    outcome.status = reader->Finish();
    return outcome;
  }

  // Nothing is left of any request: sessions, tickets, streams on workers.
  void ExpectIdle() {
    if (coordinator_ == nullptr) return;
    EXPECT_TRUE(coordinator_->sessions().WaitEmpty(absl::Seconds(10)));
    const auto load = coordinator_->admission().load();
    EXPECT_EQ(load.requests, 0);
    EXPECT_EQ(load.queued, 0);
    EXPECT_EQ(load.tokens, 0);
    EXPECT_TRUE(Eventually([&] {
      for (const WorkerView& worker : coordinator_->registry().Routable()) {
        if (worker.streams != 0) return false;
      }
      return true;
    }));
    EXPECT_THAT(coordinator_->MetricsText(), HasSubstr("krait_num_requests_running{"));
    EXPECT_EQ(Metric("krait_num_requests_running"), 0);
    EXPECT_EQ(Metric("krait_num_requests_waiting"), 0);
    EXPECT_EQ(Metric("krait_tokens_in_flight"), 0);
  }

  static bool Eventually(const std::function<bool()>& condition) {
    for (const absl::Time end = absl::Now() + absl::Seconds(10); absl::Now() < end;) {
      if (condition()) return true;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return false;
  }

  // Sum over the series of `name` whose labels contain `part`.
  double Metric(const std::string& name, const std::string& part = "") {
    std::istringstream lines(coordinator_->MetricsText());
    double sum = 0;
    for (std::string line; std::getline(lines, line);) {
      if (line.rfind(name + "{", 0) != 0 || line.find(part) == std::string::npos) continue;
      sum += std::stod(line.substr(line.rfind(' ') + 1));
    }
    return sum;
  }

  CoordinatorConfig config_;
  FakeClock clock_;
  std::string digest_;
  FakeWorker a_{"a"};
  FakeWorker b_{"b"};
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

const FakeScript kHello = {Chunk(0, Ids("Hel")), Chunk(3, Ids("lo")),
                           LastChunk(5, Ids("!"), v1::FINISH_REASON_LENGTH)};

TEST_F(GenerationSessionTest, RelaysEveryTokenOnceThenOneFinish) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({kHello});
  const Outcome outcome = Generate(Request());
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "Hello!");
  EXPECT_EQ(outcome.token_ids, Ids("Hello!"));
  EXPECT_EQ(outcome.last().finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(outcome.last().usage().prompt_tokens(), 2);
  EXPECT_EQ(outcome.last().usage().completion_tokens(), 6);
  EXPECT_TRUE(a_.AwaitIdle());
  EXPECT_EQ(a_.cancelled(), 0);
  EXPECT_TRUE(coordinator_->sessions().WaitEmpty(absl::Seconds(10)));  // counted after the status
  EXPECT_EQ(Metric("krait_request_success_total", "length"), 1);
}

TEST_F(GenerationSessionTest, WorkerGetsEveryFieldAndASeed) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({kHello});
  Generate(Request());
  const auto first = a_.last_request();
  EXPECT_THAT(first.prompt_token_ids(), ElementsAre('H' - ' ', 'i' - ' '));
  EXPECT_TRUE(first.sampling().has_temperature());
  EXPECT_TRUE(first.sampling().has_top_k());
  EXPECT_TRUE(first.sampling().has_seed());
  EXPECT_GT(first.deadline_ms(), 0);
  EXPECT_FALSE(first.request_id().empty());
  Generate(Request());
  EXPECT_NE(first.sampling().seed(), a_.last_request().sampling().seed());
  v1::GenerateRequest seeded = Request();
  seeded.mutable_sampling()->set_seed(42);
  Generate(seeded);
  EXPECT_EQ(a_.last_request().sampling().seed(), 42u);
}

TEST_F(GenerationSessionTest, DuplicatesAreDroppedAndGapsAreErrors) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{Chunk(0, Ids("Hel")), Chunk(0, Ids("Hel")), Chunk(1, Ids("ello")),
                  LastChunk(5, Ids("!"), v1::FINISH_REASON_LENGTH)},
                 {Chunk(0, Ids("He")), Chunk(3, Ids("lo")), WaitForCancel()}});
  const Outcome repeated = Generate(Request());
  EXPECT_TRUE(repeated.status.ok()) << repeated.status.error_message();
  EXPECT_EQ(repeated.text, "Hello!");
  EXPECT_EQ(Metric("krait_duplicate_tokens_total"), 5);
  const Outcome gap = Generate(Request());
  EXPECT_EQ(gap.status.error_code(), grpc::INTERNAL);
  EXPECT_EQ(gap.text, "He");
  EXPECT_TRUE(a_.AwaitCancelled(1));
}

TEST_F(GenerationSessionTest, StopStringCutsTextAndTokensAndAbortsTheWorker) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{Chunk(0, Ids("one, t")), Chunk(6, Ids("wo, three")), WaitForCancel()}});
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->add_stop("two");
  const Outcome outcome = Generate(request);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "one, ");
  EXPECT_EQ(outcome.token_ids, Ids("one, two"));
  EXPECT_EQ(outcome.last().finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(outcome.last().matched_stop(), "two");
  EXPECT_EQ(outcome.last().usage().completion_tokens(), 8);
  EXPECT_TRUE(a_.AwaitCancelled(1));
}

TEST_F(GenerationSessionTest, ChoicesAreRelayedApartAndAddUpAtTheEnd) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{OfChoice(1, Chunk(0, Ids("one"))), OfChoice(0, Chunk(0, Ids("zer"))),
                  OfChoice(0, LastChunk(3, Ids("o"), v1::FINISH_REASON_LENGTH)),
                  OfChoice(2, LastChunk(0, Ids("two"), v1::FINISH_REASON_STOP)),
                  OfChoice(1, LastChunk(3, Ids("!"), v1::FINISH_REASON_LENGTH))}});
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_n(3);
  const Outcome outcome = Generate(request);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(a_.last_request().sampling().n(), 3);
  EXPECT_EQ(outcome.choices.at(0), Ids("zero"));
  EXPECT_EQ(outcome.choices.at(1), Ids("one!"));
  EXPECT_EQ(outcome.choices.at(2), Ids("two"));
  std::map<int, v1::GenerateResponse> last;
  for (const auto& chunk : outcome.chunks) {
    EXPECT_EQ(chunk.has_total_usage(), &chunk == &outcome.chunks.back());
    if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) last[chunk.index()] = chunk;
  }
  EXPECT_EQ(last[1].usage().completion_tokens(), 4);
  EXPECT_EQ(last[2].usage().completion_tokens(), 3);
  EXPECT_EQ(last[2].finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(outcome.last().total_usage().completion_tokens(), 11);
  EXPECT_EQ(outcome.last().total_usage().prompt_tokens(), 2);
}

TEST_F(GenerationSessionTest, AStopStringEndsItsChoiceOnly) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts(
      {{OfChoice(0, Chunk(0, Ids("a stop b"))), OfChoice(1, Chunk(0, Ids("on"))),
        OfChoice(0, Chunk(8, Ids("lost"))),
        OfChoice(1, LastChunk(2, Ids(" it goes"), v1::FINISH_REASON_LENGTH)), WaitForCancel()}});
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_n(2);
  request.mutable_sampling()->add_stop("stop");
  const Outcome outcome = Generate(request);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "a ");
  EXPECT_EQ(outcome.choices.at(0), Ids("a stop"));
  EXPECT_EQ(outcome.choices.at(1), Ids("on it goes"));
  EXPECT_EQ(outcome.last().total_usage().completion_tokens(), 16);
  EXPECT_TRUE(a_.AwaitStopped(1));
  EXPECT_EQ(a_.stopped_choices(), std::vector<int>{0});
  EXPECT_TRUE(a_.AwaitCancelled(1)) << "a worker that cannot stop a choice would go on";
}

TEST_F(GenerationSessionTest, MinTokensKeepStopStringsFromMatching) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{Chunk(0, Ids("stop it, stop")), WaitForCancel()}});
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->add_stop("stop");
  request.mutable_sampling()->set_min_tokens(4);
  const Outcome outcome = Generate(request);
  EXPECT_EQ(outcome.text, "stop it, ");
  EXPECT_EQ(a_.last_request().sampling().min_tokens(), 4);
}

TEST_F(GenerationSessionTest, ChoicesAreRetriedUntilAnyHasATokenAndFailTogether) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{EndWith(grpc::UNAVAILABLE)}});
  b_.SetScripts({{OfChoice(0, LastChunk(0, Ids("a"), v1::FINISH_REASON_STOP)),
                  OfChoice(1, LastChunk(0, Ids("b"), v1::FINISH_REASON_STOP))},
                 {OfChoice(1, Chunk(0, Ids("b"))), EndWith(grpc::UNAVAILABLE)}});
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_n(2);
  const Outcome retried = Generate(request);
  EXPECT_TRUE(retried.status.ok()) << retried.status.error_message();
  EXPECT_EQ(retried.choices.at(1), Ids("b"));
  a_.SetScripts({{OfChoice(1, Chunk(0, Ids("b"))), EndWith(grpc::UNAVAILABLE)}});
  MakeReady(a_);
  const Outcome broken = Generate(request);
  EXPECT_EQ(broken.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(broken.choices.count(0), 0u);
  EXPECT_EQ(broken.choices.at(1), Ids("b"));
}

TEST_F(GenerationSessionTest, AChoiceThatNobodyAskedForIsInternal) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{OfChoice(1, Chunk(0, Ids("x"))), WaitForCancel()}});
  EXPECT_EQ(Generate(Request()).status.error_code(), grpc::INTERNAL);
  EXPECT_TRUE(a_.AwaitCancelled(1));
}

TEST_F(GenerationSessionTest, ChoicesCountTowardsTheTokenBudget) {
  config_.set_token_budget(3 * 22);
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts(
      {{Chunk(0, Ids("H")), WaitForRelease(), LastChunk(1, Ids("i"), v1::FINISH_REASON_LENGTH)},
       {EndWith(grpc::INTERNAL)}});
  bool asked = false;
  const Outcome holder = Generate(Request(), [&](grpc::ClientContext&) {  // 2 + 20 tokens
    if (asked) return;
    asked = true;
    v1::GenerateRequest request = Request();
    request.mutable_sampling()->set_n(3);
    EXPECT_EQ(Generate(request).status.error_code(), grpc::RESOURCE_EXHAUSTED);
    request.mutable_sampling()->set_n(2);
    EXPECT_EQ(Generate(request).status.error_code(), grpc::INTERNAL) << "admitted";
    a_.Release();
  });
  EXPECT_TRUE(holder.status.ok()) << holder.status.error_message();
}

TEST_F(GenerationSessionTest, StopTokenIsInTheIdsAndNotInTheText) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{LastChunk(0, Ids("yes."), v1::FINISH_REASON_STOP)}});
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->add_stop_token_ids('.' - ' ');
  const Outcome outcome = Generate(request);
  EXPECT_EQ(outcome.text, "yes");
  EXPECT_EQ(outcome.token_ids, Ids("yes."));
}

TEST_F(GenerationSessionTest, LossBeforeTheFirstTokenIsRetriedOnAnotherWorker) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{EndWith(grpc::UNAVAILABLE)}});
  b_.SetScripts({kHello});
  const Outcome outcome = Generate(Request());  // round robin: a first
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "Hello!");
  EXPECT_EQ(a_.calls(), 1);
  EXPECT_EQ(b_.calls(), 1);
  EXPECT_EQ(Metric("krait_request_retries_total"), 1);
}

TEST_F(GenerationSessionTest, RetryKeepsTheSeed) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{EndWith(grpc::UNAVAILABLE)}});
  b_.SetScripts({kHello});
  Generate(Request());
  EXPECT_EQ(a_.last_request().sampling().seed(), b_.last_request().sampling().seed());
}

TEST_F(GenerationSessionTest, LossAfterTheFirstTokenIsUnavailableAndAPrefix) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{Chunk(0, Ids("Hel")), EndWith(grpc::UNAVAILABLE)}});
  b_.SetScripts({kHello});
  const Outcome outcome = Generate(Request());
  EXPECT_EQ(outcome.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(outcome.text, "Hel");
  EXPECT_EQ(b_.calls(), 0);
  EXPECT_EQ(Metric("krait_streams_broken_total"), 1);
}

TEST_F(GenerationSessionTest, KilledWorkerIsReplacedBeforeTheFirstToken) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{WaitForCancel()}});
  b_.SetScripts({kHello});
  std::thread killer([&] {
    EXPECT_TRUE(a_.AwaitCalls(1));
    a_.Kill();
  });
  const Outcome outcome = Generate(Request());
  killer.join();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "Hello!");
}

TEST_F(GenerationSessionTest, EndedLeaseCutsAHungWorkersStream) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{WaitForCancel()}});
  b_.SetScripts({kHello});
  std::thread time([&] {
    EXPECT_TRUE(a_.AwaitCalls(1));
    clock_.Advance(absl::Seconds(3));
    MakeReady(b_);  // b renews, a does not
    coordinator_->Tick();
    EXPECT_TRUE(Eventually([&] {
      coordinator_->Tick();
      return b_.calls() == 1;
    }));
  });
  const Outcome outcome = Generate(Request());
  time.join();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "Hello!");
}

TEST_F(GenerationSessionTest, AttemptsAreBounded) {
  config_.set_max_attempts(2);
  StartCoordinator();
  FakeWorker c("c");
  for (FakeWorker* worker : {&a_, &b_, &c}) {
    worker->SetScripts({{EndWith(grpc::UNAVAILABLE)}});
    MakeReady(*worker);
  }
  const Outcome outcome = Generate(Request());
  EXPECT_EQ(outcome.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(a_.calls() + b_.calls() + c.calls(), 2);
}

TEST_F(GenerationSessionTest, ErrorsOfTheRequestAreNotRetried) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  for (const auto code : {grpc::INTERNAL, grpc::INVALID_ARGUMENT, grpc::DEADLINE_EXCEEDED}) {
    a_.SetScripts({{EndWith(code)}});
    b_.SetScripts({{EndWith(code)}});
    const int calls = a_.calls() + b_.calls();
    EXPECT_EQ(Generate(Request()).status.error_code(), code);
    EXPECT_EQ(a_.calls() + b_.calls(), calls + 1);
  }
}

TEST_F(GenerationSessionTest, FullWorkersAreResourceExhaustedWithRetryInfo) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{EndWith(grpc::RESOURCE_EXHAUSTED)}});
  const Outcome outcome = Generate(Request());
  EXPECT_EQ(outcome.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(RetryDelay(FromGrpcStatus(outcome.status)).has_value());
}

// Neither its prompt nor a worker is looked at.
TEST_F(GenerationSessionTest, WhenEveryWorkerIsFullARequestCostsNothing) {
  StartCoordinator();
  MakeReady(a_, /*max_running=*/1, /*max_waiting=*/1);
  a_.SetScripts(
      {{Chunk(0, Ids("H")), WaitForRelease(), LastChunk(1, Ids("i"), v1::FINISH_REASON_LENGTH)}});
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  v1::GenerateResponse chunk;
  for (int i = 0; i < 2; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(contexts.back().get(), Request()));
    ASSERT_TRUE(readers.back()->Read(&chunk));
  }
  v1::GenerateRequest request = Request();
  request.set_prompt("\xff");  // would be INVALID_ARGUMENT
  const Outcome refused = Generate(request);
  EXPECT_EQ(refused.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("max_waiting"));
  EXPECT_TRUE(RetryDelay(FromGrpcStatus(refused.status)).has_value());
  EXPECT_EQ(Metric("krait_requests_rejected_total", "workers_full"), 1);
  EXPECT_EQ(a_.calls(), 2);
  a_.Release();
  for (auto& reader : readers) {
    EXPECT_TRUE(reader->Read(&chunk));
    EXPECT_TRUE(reader->Finish().ok());
  }
  ASSERT_TRUE(Eventually([&] { return !coordinator_->registry().Full(); }));
  EXPECT_TRUE(Generate(Request()).status.ok());
}

TEST_F(GenerationSessionTest, OkWithoutAFinishReasonIsInternal) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{Chunk(0, Ids("He"))}});
  EXPECT_EQ(Generate(Request()).status.error_code(), grpc::INTERNAL);
}

TEST_F(GenerationSessionTest, WaitsForAWorkerAndThenRuns) {
  StartCoordinator();
  a_.SetScripts({kHello});
  std::thread join([&] {
    EXPECT_TRUE(Eventually([&] { return coordinator_->admission().load().queued == 1; }));
    MakeReady(a_);
    coordinator_->Tick();
  });
  const Outcome outcome = Generate(Request());
  join.join();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "Hello!");
}

TEST_F(GenerationSessionTest, WaitingEndsWithUnavailableAfterTheQueueTimeout) {
  config_.set_queue_timeout_ms(500);
  StartCoordinator();
  std::thread time([&] {
    EXPECT_TRUE(Eventually([&] { return coordinator_->admission().load().queued == 1; }));
    clock_.Advance(absl::Milliseconds(499));
    coordinator_->Tick();
    EXPECT_EQ(coordinator_->admission().load().queued, 1);
    clock_.Advance(absl::Milliseconds(1));
    coordinator_->Tick();
  });
  const Outcome outcome = Generate(Request());
  time.join();
  EXPECT_EQ(outcome.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(Metric("krait_requests_rejected_total", "queue_timeout"), 1);
}

TEST_F(GenerationSessionTest, TokenBudgetRefusesAtOnceAndFreesItself) {
  config_.set_token_budget(30);
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts(
      {{Chunk(0, Ids("H")), WaitForRelease(), LastChunk(1, Ids("i"), v1::FINISH_REASON_LENGTH)}});
  bool asked = false;
  const Outcome holder = Generate(Request(), [&](grpc::ClientContext&) {
    if (asked) return;
    asked = true;
    const Outcome refused = Generate(Request());
    EXPECT_EQ(refused.status.error_code(), grpc::RESOURCE_EXHAUSTED);
    EXPECT_TRUE(RetryDelay(FromGrpcStatus(refused.status)).has_value());
    a_.Release();
  });
  EXPECT_TRUE(holder.status.ok());
  EXPECT_EQ(Metric("krait_requests_rejected_total", "token_budget"), 1);
  EXPECT_TRUE(Generate(Request()).status.ok());
}

TEST_F(GenerationSessionTest, ClientsCancelReachesTheWorker) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{Chunk(0, Ids("H")), WaitForCancel()}});
  const Outcome outcome =
      Generate(Request(), [](grpc::ClientContext& context) { context.TryCancel(); });
  EXPECT_EQ(outcome.status.error_code(), grpc::CANCELLED);
  EXPECT_TRUE(a_.AwaitCancelled(1));
}

TEST_F(GenerationSessionTest, CancelWhileWaitingForAWorkerLeavesTheQueue) {
  StartCoordinator();
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Request());
  ASSERT_TRUE(Eventually([&] { return coordinator_->admission().load().queued == 1; }));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
}

TEST_F(GenerationSessionTest, CancelWithAWriteInFlightFinishesTheCall) {
  StartCoordinator();
  MakeReady(a_);
  // More than gRPC's windows take: the client never reads, so a write stays in flight.
  v1::GenerateRequest request = Request(900);
  request.mutable_sampling()->set_logprobs(20);
  FakeScript script;
  for (int i = 0; i < 800; ++i) {
    FakeStep step = Chunk(i, Ids("x"));
    auto& position = *step.chunk.add_logprobs();
    for (int k = 0; k < 20; ++k) position.add_top()->set_logprob(static_cast<float>(k + 1));
    script.push_back(step);
  }
  script.push_back(WaitForCancel());
  a_.SetScripts({script});
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, request);
  ASSERT_TRUE(a_.AwaitCalls(1));
  ASSERT_TRUE(Eventually([&] { return Metric("krait_time_to_first_token_seconds_count") == 1; }));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  EXPECT_TRUE(a_.AwaitCancelled(1));
}

TEST_F(GenerationSessionTest, ManyCancelsAtRandomMomentsLeakNothing) {
  StartCoordinator();
  MakeReady(a_);
  FakeScript script;
  for (int i = 0; i < 200; ++i) script.push_back(Chunk(i, Ids("x")));
  script.push_back(LastChunk(200, Ids("x"), v1::FINISH_REASON_LENGTH));
  a_.SetScripts({script});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        int left = (7 * i + 13 * t) % 60;
        const Outcome outcome = Generate(Request(201), [&](grpc::ClientContext& context) {
          if (left-- == 0) context.TryCancel();
        });
        EXPECT_TRUE(outcome.status.ok() || outcome.status.error_code() == grpc::CANCELLED)
            << outcome.status.error_code() << ": " << outcome.status.error_message();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(a_.AwaitIdle());
}

TEST_F(GenerationSessionTest, ServersDeadlineEndsTheStreamAndTheWorker) {
  config_.set_default_deadline_ms(5000);
  config_.set_lease_ms(60'000);
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{Chunk(0, Ids("H")), WaitForCancel()}});
  grpc::ClientContext context;  // no deadline of its own
  const auto reader = stub_->Generate(&context, Request());
  v1::GenerateResponse chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  clock_.Advance(absl::Seconds(5));
  coordinator_->Tick();
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  EXPECT_TRUE(a_.AwaitCancelled(1));
}

TEST_F(GenerationSessionTest, DeadlinesAreFiveMinutesAndAtMostThirty) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({kHello});
  grpc::ClientContext none;
  const auto reader = stub_->Generate(&none, Request());
  for (v1::GenerateResponse chunk; reader->Read(&chunk);) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(a_.last_request().deadline_ms(), 300'000);
  Generate(Request(), nullptr, absl::Minutes(20));  // gRPC sends two digits, rounded up
  EXPECT_LE(a_.last_request().deadline_ms(), 21 * 60'000);
  EXPECT_GT(a_.last_request().deadline_ms(), 19 * 60'000);
  Generate(Request(), nullptr, absl::Minutes(31));
  EXPECT_EQ(a_.last_request().deadline_ms(), 30 * 60'000);
}

TEST_F(GenerationSessionTest, DeadlineShorterThanTheWaitIsRefusedAtOnce) {
  StartCoordinator();
  MakeReady(a_, /*max_running=*/1);
  // Requests leave one a second while two more are there than can run.
  auto& estimator = coordinator_->wait_estimator();
  for (int i = 0; i < 40; ++i) estimator.OnFinished(3, 1, absl::Seconds(i));
  a_.SetScripts({{Chunk(0, Ids("H")), WaitForCancel()}});
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (int i = 0; i < 3; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(contexts.back().get(), Request()));
    v1::GenerateResponse chunk;
    ASSERT_TRUE(readers.back()->Read(&chunk));
  }
  // Three in front, one runs at once: about three seconds.
  const Outcome refused = Generate(Request(), nullptr, absl::Seconds(2));
  EXPECT_EQ(refused.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("deadline: about 3000 ms"));
  EXPECT_TRUE(RetryDelay(FromGrpcStatus(refused.status)).has_value());
  EXPECT_EQ(Metric("krait_requests_rejected_total", "deadline"), 1);
  EXPECT_EQ(a_.calls(), 3);
  grpc::ClientContext patient;
  const auto reader = stub_->Generate(&patient, Request());  // five minutes
  v1::GenerateResponse chunk;
  EXPECT_TRUE(reader->Read(&chunk));
  patient.TryCancel();
  reader->Finish();
  for (auto& context : contexts) context->TryCancel();
  for (auto& open : readers) open->Finish();
}

// `num_tokens` chunks of one token and about 400 bytes of logprobs, then silence.
FakeScript Flood(int num_tokens) {
  FakeScript script;
  for (int i = 0; i < num_tokens; ++i) {
    FakeStep step = Chunk(i, Ids("x"));
    v1::PositionLogprobs& logprobs = *step.chunk.add_logprobs();
    for (int j = 0; j < 20; ++j) {
      logprobs.add_top()->set_token_id(-1);  // ten bytes
      logprobs.mutable_top(j)->set_logprob(-1.5f);
    }
    script.push_back(std::move(step));
  }
  script.push_back(WaitForCancel());
  return script;
}

// The client's window is 64 KiB; what is beyond it stays with the worker, and nothing of it here.
TEST_F(GenerationSessionTest, ClientThatDoesNotReadLosesItsStreamAndNobodyElse) {
  config_.set_slow_client_timeout_ms(5000);
  config_.set_lease_ms(600'000);
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({Flood(900), kHello});
  grpc::ClientContext context;
  v1::GenerateRequest request = Request(900);
  request.mutable_sampling()->set_logprobs(20);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // a fixed window
  const auto channel = grpc::CreateCustomChannel(coordinator_->grpc_server().address(),
                                                 grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::GenerationService::NewStub(channel);
  const auto reader = stub_->Generate(&context, request);
  ASSERT_TRUE(a_.AwaitCalls(1));
  EXPECT_TRUE(Generate(Request()).status.ok());  // a neighbour on the same connection
  EXPECT_TRUE(Eventually([&] {
    clock_.Advance(absl::Seconds(1));
    coordinator_->Tick();
    return Metric("krait_slow_clients_total") == 1;
  }));
  EXPECT_TRUE(a_.AwaitCancelled(1));
  EXPECT_TRUE(coordinator_->sessions().WaitEmpty(absl::Seconds(10)));  // though nobody reads
  for (v1::GenerateResponse chunk; reader->Read(&chunk);) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "slow_client_timeout_ms: the client read nothing for 5000 ms");
}

TEST_F(GenerationSessionTest, RetriesStopWhenTheirBudgetIsSpent) {
  config_.set_retry_budget_burst(2);
  config_.set_retry_budget_percent(0);
  config_.set_lease_ms(600'000);
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{EndWith(grpc::RESOURCE_EXHAUSTED)}});
  b_.SetScripts({kHello});
  int ok = 0;
  for (int i = 0; i < 8; ++i) ok += Generate(Request()).status.ok();
  // Round robin asks each four times first; two of a_'s refusals may be tried on b_.
  EXPECT_EQ(Metric("krait_request_retries_total"), 2);
  EXPECT_GE(Metric("krait_request_retries_denied_total"), 1);
  EXPECT_LT(ok, 8);
}

TEST_F(GenerationSessionTest, BadRequestsNameTheFieldAndNeverReachAWorker) {
  StartCoordinator();
  MakeReady(a_);
  v1::GenerateRequest request = Request();
  request.mutable_sampling()->set_top_p(1.5);
  EXPECT_THAT(Generate(request).status.error_message(), HasSubstr("top_p"));
  request = Request();
  request.set_prompt("bad \xff");
  EXPECT_THAT(Generate(request).status.error_message(), HasSubstr("offset 4"));
  request = Request(999);  // 2 + 999 is past the context of 1,000
  EXPECT_THAT(Generate(request).status.error_message(), HasSubstr("max_tokens"));
  request = Request();
  request.clear_input();
  EXPECT_EQ(Generate(request).status.error_code(), grpc::INVALID_ARGUMENT);
  request = Request();
  request.mutable_chat();
  EXPECT_EQ(Generate(request).status.error_code(), grpc::INVALID_ARGUMENT);
  request = Request();
  request.set_prompt("");
  EXPECT_EQ(ErrorField(FromGrpcStatus(Generate(request).status)), "prompt");
  request = Request();
  request.set_prompt(std::string(1000, 'x'));
  EXPECT_THAT(Generate(request).status.error_message(), HasSubstr("context of 1000"));
  request = Request();
  request.mutable_prompt_token_ids()->add_ids(260);
  EXPECT_EQ(ErrorField(FromGrpcStatus(Generate(request).status)), "prompt_token_ids[0]");
  for (const testing::BadSampling& bad : testing::BadSamplings(260)) {
    request = Request();
    bad.edit(*request.mutable_sampling());
    const absl::Status status = FromGrpcStatus(Generate(request).status);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    EXPECT_EQ(ErrorField(status), bad.field) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.limit));
  }
  request = Request();
  request.set_model("other");
  EXPECT_EQ(Generate(request).status.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(a_.calls(), 0);
}

TEST_F(GenerationSessionTest, LiveRequestIdIsRefusedAndFreeAfterwards) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts(
      {{Chunk(0, Ids("H")), WaitForRelease(), LastChunk(1, Ids("i"), v1::FINISH_REASON_LENGTH)}});
  v1::GenerateRequest request = Request();
  request.set_request_id("mine");
  bool asked = false;
  const Outcome first = Generate(request, [&](grpc::ClientContext&) {
    if (asked) return;
    asked = true;
    EXPECT_EQ(Generate(request).status.error_code(), grpc::ALREADY_EXISTS);
    a_.Release();
  });
  EXPECT_TRUE(first.status.ok());
  EXPECT_TRUE(Generate(request).status.ok());
}

TEST_F(GenerationSessionTest, AClientThatHasSeenTheEndMayUseTheIdAtOnce) {
  StartCoordinator();
  MakeReady(a_);
  v1::GenerateRequest request = Request();
  request.set_request_id("mine");
  for (int i = 0; i < 500; ++i) {
    a_.SetScripts({kHello});
    const Outcome outcome = Generate(request);
    ASSERT_TRUE(outcome.status.ok()) << i << ": " << outcome.status.error_message();
  }
}

TEST_F(GenerationSessionTest, ToWorkersEveryAttemptIsSomebodyElse) {
  StartCoordinator();
  MakeReady(a_);
  MakeReady(b_);
  a_.SetScripts({{EndWith(grpc::UNAVAILABLE)}});
  b_.SetScripts({kHello});
  v1::GenerateRequest request = Request();
  request.set_request_id(std::string(kMaxRequestIdBytes, 'x'));
  const Outcome outcome = Generate(request);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.last().request_id(), request.request_id());
  const std::string first = a_.last_request().request_id();
  const std::string second = b_.last_request().request_id();
  EXPECT_NE(first, second);
  for (const std::string& id : {first, second}) {
    EXPECT_TRUE(CheckRequestId(id).ok()) << id;
    EXPECT_THAT(id, ::testing::StartsWith(std::string(100, 'x')));
  }
}

TEST_F(GenerationSessionTest, DrainFinishesWhatRunsAndRefusesWhatComes) {
  StartCoordinator();
  MakeReady(a_);
  EXPECT_TRUE(coordinator_->Ready().ok());
  a_.SetScripts(
      {{Chunk(0, Ids("H")), WaitForRelease(), LastChunk(1, Ids("i"), v1::FINISH_REASON_LENGTH)}});
  bool asked = false;
  const Outcome running = Generate(Request(), [&](grpc::ClientContext&) {
    if (asked) return;
    asked = true;
    coordinator_->StartDraining();
    EXPECT_FALSE(coordinator_->Ready().ok());
    EXPECT_EQ(Generate(Request()).status.error_code(), grpc::UNAVAILABLE);
    a_.Release();
  });
  EXPECT_TRUE(running.status.ok());
  EXPECT_EQ(running.text, "Hi");
  EXPECT_TRUE(coordinator_->Drain());
}

TEST_F(GenerationSessionTest, WhileLeavingItIsNotReadyAndStillAccepts) {
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{LastChunk(0, Ids("H"), v1::FINISH_REASON_LENGTH)}});
  coordinator_->StartLeaving();
  EXPECT_FALSE(coordinator_->Ready().ok());
  EXPECT_TRUE(Generate(Request()).status.ok());
  coordinator_->StartDraining();
  EXPECT_EQ(Generate(Request()).status.error_code(), grpc::UNAVAILABLE);
}

TEST_F(GenerationSessionTest, DrainCutsWhatOutlivesItsTime) {
  config_.set_drain_timeout_ms(20);
  StartCoordinator();
  MakeReady(a_);
  a_.SetScripts({{Chunk(0, Ids("H")), WaitForCancel()}});
  std::thread drain([&] {
    EXPECT_TRUE(Eventually([&] { return Metric("krait_time_to_first_token_seconds_count") == 1; }));
    EXPECT_FALSE(coordinator_->Drain());
  });
  const Outcome outcome = Generate(Request());
  drain.join();
  EXPECT_EQ(outcome.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(outcome.text, "H");
  EXPECT_TRUE(a_.AwaitCancelled(1));
}

TEST_F(GenerationSessionTest, EverySeriesExistsAtZeroFromTheStart) {
  StartCoordinator();
  const std::string text = coordinator_->MetricsText();
  for (const char* series :
       {"krait_requests_total{code=\"OK\",method=\"Generate\"", "reason=\"token_budget\"",
        "krait_request_success_total{finished_reason=\"stop\"",
        "krait_workers{model_name=\"model\"", "krait_time_to_first_token_seconds_count",
        "krait_request_retries_total"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
}

}  // namespace
}  // namespace krait
