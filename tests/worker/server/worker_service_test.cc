#include "worker/server/worker_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "common/clock.h"
#include "common/field_error.h"
#include "common/grpc_server.h"
#include "common/grpc_status.h"
#include "tests/support/bad_sampling.h"
#include "tests/support/scripted_engine.h"
#include "worker/server/generate_call.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FixedClock final : public Clock {
 public:
  absl::Duration Now() const override { return absl::Seconds(1000); }
};

class WorkerServiceTest : public ::testing::Test {
 protected:
  WorkerServiceTest()
      : epochs_(/*registers=*/true), service_(&clock_, &epochs_, [this] { ++drains_; }) {
    epochs_.Set("coordinator", 7);
    service_.SetEngine(&engine_,
                       {.limits = {.max_context_tokens = 100, .vocab_size = 50}, .eos_ids = {2}});
    auto server =
        GrpcServer::Start({}, {{internal::v1::WorkerService::service_full_name(), &service_}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    stub_ = internal::v1::WorkerService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }

  static internal::v1::GenerateRequest Request(const std::string& id) {
    internal::v1::GenerateRequest request;
    request.set_request_id(id);
    request.set_epoch(7);
    request.add_prompt_token_ids(3);
    request.mutable_sampling()->set_max_tokens(10);
    return request;
  }

  using Reader = std::unique_ptr<grpc::ClientReader<internal::v1::TokenChunk>>;
  Reader Start(grpc::ClientContext& context, const internal::v1::GenerateRequest& request) {
    return stub_->Generate(&context, request);
  }

  // The final status of a call that gets no chunk.
  absl::Status Refusal(const internal::v1::GenerateRequest& request) {
    grpc::ClientContext context;
    auto reader = Start(context, request);
    internal::v1::TokenChunk chunk;
    EXPECT_FALSE(reader->Read(&chunk));
    return FromGrpcStatus(reader->Finish());
  }

  FixedClock clock_;
  EpochTable epochs_;
  ScriptedEngine engine_;
  std::atomic<int> drains_{0};
  WorkerService service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<internal::v1::WorkerService::Stub> stub_;
};

TEST_F(WorkerServiceTest, StreamsTokensWithoutGapAndEndsOnce) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("a"));
  engine_.WaitForRequest("a");
  for (int i = 0; i < 9; ++i) engine_.Emit("a", {i});
  engine_.Emit("a", {9}, FinishReason::kLength);
  engine_.End("a", absl::OkStatus());
  std::vector<int> ids;
  internal::v1::TokenChunk chunk;
  v1::FinishReason last = v1::FINISH_REASON_UNSPECIFIED;
  while (reader->Read(&chunk)) {
    EXPECT_EQ(last, v1::FINISH_REASON_UNSPECIFIED) << "a chunk after the last one";
    EXPECT_EQ(chunk.first_index(), static_cast<int>(ids.size()));
    ids.insert(ids.end(), chunk.token_ids().begin(), chunk.token_ids().end());
    last = chunk.finish_reason();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(ids, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_EQ(last, v1::FINISH_REASON_LENGTH);
}

TEST_F(WorkerServiceTest, RequestReachesTheEngineWithDefaultsAndDeadline) {
  auto request = Request("a");
  request.set_deadline_ms(1500);
  request.set_max_draft_tokens(3);
  grpc::ClientContext context;
  auto reader = Start(context, request);
  const GenerationRequest got = engine_.WaitForRequest("a");
  EXPECT_THAT(got.prompt, ElementsAre(3));
  EXPECT_EQ(got.stop.max_tokens, 10);
  EXPECT_THAT(got.stop.eos_ids, ElementsAre(2));
  EXPECT_EQ(got.max_draft_tokens, 3);
  EXPECT_EQ(got.deadline, absl::Seconds(1000) + absl::Milliseconds(1500));
  engine_.End("a", absl::CancelledError("over"));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerServiceTest, ErrorsAfterTokensKeepTheTokens) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("a"));
  engine_.WaitForRequest("a");
  engine_.Emit("a", {5, 6});
  engine_.End("a", absl::InternalError("logits are not finite"));
  internal::v1::TokenChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_THAT(chunk.token_ids(), ElementsAre(5, 6));
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::INTERNAL);
}

TEST_F(WorkerServiceTest, ADisconnectAborts) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("a"));
  engine_.WaitForRequest("a");
  context.TryCancel();
  EXPECT_EQ(engine_.WaitForAbort("a").code(), absl::StatusCode::kCancelled);
  engine_.End("a", absl::CancelledError("aborted"));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// The transport takes some before the client reads; then the buffer fills up. An engine that kept
// to the pause would not have to be stopped here.
TEST_F(WorkerServiceTest, AClientThatDoesNotReadPausesItsStreamAndLosesNoToken) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("slow"));
  engine_.WaitForRequest("slow");
  int emitted = 0;
  while (!engine_.paused("slow")) {
    std::vector<TokenId> ids;
    for (int i = 0; i < 500; ++i) ids.push_back((emitted + i) % 50);
    engine_.Emit("slow", ids);
    emitted += 500;
  }
  internal::v1::TokenChunk chunk;
  int next = 0;
  const auto read = [&] {
    EXPECT_EQ(chunk.first_index(), next);
    for (int id : chunk.token_ids()) EXPECT_EQ(id, next++ % 50);
  };
  while (next < emitted && reader->Read(&chunk)) read();
  engine_.WaitForPaused("slow", false);
  engine_.Emit("slow", {emitted % 50}, FinishReason::kLength);
  engine_.End("slow", absl::OkStatus());
  while (reader->Read(&chunk)) read();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(next, emitted + 1);
}

TEST_F(WorkerServiceTest, APausedStreamThatTheEngineEndsKeepsItsTokens) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("slow"));
  engine_.WaitForRequest("slow");
  int emitted = 0;
  for (; !engine_.paused("slow"); emitted += 1000) {
    engine_.Emit("slow", std::vector<TokenId>(1000, 1));
  }
  engine_.End("slow", absl::ResourceExhaustedError("slow_reader_timeout_ms: 30000"));
  int got = 0;
  for (internal::v1::TokenChunk chunk; reader->Read(&chunk);) got += chunk.token_ids_size();
  EXPECT_EQ(got, emitted);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(WorkerServiceTest, ACancelledStreamThatIsPausedAborts) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("slow"));
  engine_.WaitForRequest("slow");
  while (!engine_.paused("slow")) engine_.Emit("slow", std::vector<TokenId>(1000, 1));
  context.TryCancel();
  EXPECT_EQ(engine_.WaitForAbort("slow").code(), absl::StatusCode::kCancelled);
  engine_.End("slow", absl::CancelledError("aborted"));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// Without a transport: gRPC takes the first chunk and never says that it was written.
class GenerateCallTest : public ::testing::Test {
 protected:
  GenerateCallTest() {
    GenerationRequest request;
    request.request_id = "a";
    EXPECT_TRUE(engine_.Submit(std::move(request), call_).ok());
    call_->SetAccepted();
  }
  ~GenerateCallTest() override {
    engine_.End("a", absl::CancelledError("over"));
    call_->OnDone();
  }
  void Emit(int num_ids, int choice = 0) {
    engine_.Emit("a", std::vector<TokenId>(num_ids, 1), FinishReason::kNone, choice);
  }

  ScriptedEngine engine_;
  std::shared_ptr<GenerateCall> call_ = GenerateCall::Create(&engine_, "a");
};

TEST_F(GenerateCallTest, PausesJustAboveItsLimitAndResumesAtItsLowerOne) {
  Emit(GenerateCall::kPauseEntries - 1000);  // being written
  Emit(1000);
  EXPECT_FALSE(engine_.paused("a"));
  Emit(25);
  EXPECT_TRUE(engine_.paused("a"));
  call_->OnWriteDone(true);  // 1,025 are left, being written
  EXPECT_TRUE(engine_.paused("a"));
  EXPECT_EQ(engine_.num_pauses("a"), 2) << "it reads, if slowly";
  call_->OnWriteDone(true);
  EXPECT_FALSE(engine_.paused("a"));
}

TEST_F(GenerateCallTest, ResumesWhileAtMostTheLowerLimitIsLeft) {
  Emit(GenerateCall::kPauseEntries);
  Emit(GenerateCall::kResumeEntries);
  EXPECT_TRUE(engine_.paused("a"));
  call_->OnWriteDone(true);
  EXPECT_FALSE(engine_.paused("a"));
}

TEST_F(GenerateCallTest, ChoicesAndLogprobsCount) {
  Emit(GenerateCall::kPauseEntries / 2);
  Emit(GenerateCall::kPauseEntries / 2, 1);
  EXPECT_FALSE(engine_.paused("a"));
  TokenEvent event{.choice = 2, .token_ids = {1}};
  event.logprobs.push_back({.token = {1, -0.5f}, .top = {{1, -0.5f}}});
  call_->OnTokens(std::move(event));
  EXPECT_TRUE(engine_.paused("a"));
}

TEST_F(GenerateCallTest, AClientThatHasGoneIsAbortedAndPausedNoMore) {
  Emit(1);
  Emit(GenerateCall::kPauseEntries);
  EXPECT_EQ(engine_.num_pauses("a"), 1);
  call_->OnWriteDone(false);
  EXPECT_EQ(engine_.WaitForAbort("a").code(), absl::StatusCode::kCancelled);
  Emit(GenerateCall::kPauseEntries);
  EXPECT_EQ(engine_.num_pauses("a"), 1);
}

// A client that leaves before Submit has returned to the call.
TEST(GenerateCallBeforeAcceptance, ACancelledCallAbortsAfterIt) {
  ScriptedEngine engine;
  auto call = GenerateCall::Create(&engine, "early");
  GenerationRequest request;
  request.request_id = "early";
  ASSERT_TRUE(engine.Submit(std::move(request), call).ok());
  call->OnCancel();
  call->SetAccepted();
  EXPECT_EQ(engine.WaitForAbort("early").code(), absl::StatusCode::kCancelled);
  engine.End("early", absl::CancelledError("aborted"));
  call->OnDone();
}

TEST_F(WorkerServiceTest, AnotherEpochIsAborted) {
  auto request = Request("a");
  request.set_epoch(6);
  EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kAborted);
  epochs_.Clear("coordinator");
  EXPECT_EQ(Refusal(Request("a")).code(), absl::StatusCode::kAborted);
}

TEST_F(WorkerServiceTest, ALiveIdIsRefused) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("a"));
  engine_.WaitForRequest("a");
  EXPECT_EQ(Refusal(Request("a")).code(), absl::StatusCode::kAlreadyExists);
  engine_.End("a", absl::CancelledError("over"));
  reader->Finish();
}

TEST_F(WorkerServiceTest, BadFieldsAreNamed) {
  auto request = Request("a");
  request.add_prompt_token_ids(50);
  EXPECT_EQ(ErrorField(Refusal(request)), "prompt_token_ids[1]");
  request = Request("a b");
  EXPECT_EQ(ErrorField(Refusal(request)), "request_id");
  request = Request("a");
  request.set_max_draft_tokens(99);
  EXPECT_EQ(ErrorField(Refusal(request)), "max_draft_tokens");
}

// A coordinator that lets everything through must not be able to harm a worker.
TEST_F(WorkerServiceTest, BadSamplingIsRefusedHereToo) {
  for (const testing::BadSampling& bad : testing::BadSamplings(50)) {
    auto request = Request("a");
    bad.edit(*request.mutable_sampling());
    const absl::Status status = Refusal(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    EXPECT_EQ(ErrorField(status), bad.field) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.limit));
  }
}

TEST_F(WorkerServiceTest, ChoicesComeInChunksOfTheirOwn) {
  grpc::ClientContext context;
  auto request = Request("a");
  request.mutable_sampling()->set_n(2);
  auto reader = Start(context, request);
  EXPECT_EQ(engine_.WaitForRequest("a").num_choices, 2);
  engine_.Emit("a", {1, 2}, FinishReason::kNone, 0);
  engine_.Emit("a", {3}, FinishReason::kNone, 1);
  engine_.Emit("a", {4}, FinishReason::kLength, 0);
  engine_.Emit("a", {5, 6}, FinishReason::kStop, 1);
  engine_.End("a", absl::OkStatus());
  std::map<int, std::vector<int>> tokens;
  std::map<int, int> reasons;
  for (internal::v1::TokenChunk chunk; reader->Read(&chunk);) {
    auto& got = tokens[chunk.choice()];
    EXPECT_EQ(chunk.first_index(), static_cast<int>(got.size()));
    got.insert(got.end(), chunk.token_ids().begin(), chunk.token_ids().end());
    if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
      reasons[chunk.choice()] = chunk.finish_reason();
    }
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(tokens[0], ElementsAre(1, 2, 4));
  EXPECT_THAT(tokens[1], ElementsAre(3, 5, 6));
  EXPECT_EQ(reasons[0], v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(reasons[1], v1::FINISH_REASON_STOP);
}

TEST_F(WorkerServiceTest, AChoiceIsStoppedByItself) {
  grpc::ClientContext context;
  auto reader = Start(context, Request("a"));
  engine_.WaitForRequest("a");
  grpc::ClientContext stop_context;
  internal::v1::StopChoiceRequest stop;
  stop.set_request_id("a");
  stop.set_choice(1);
  internal::v1::StopChoiceResponse stopped;
  EXPECT_TRUE(stub_->StopChoice(&stop_context, stop, &stopped).ok());
  engine_.WaitForStop("a", 1);
  engine_.End("a", absl::OkStatus());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(WorkerServiceTest, TheEnginesRefusalKeepsItsCode) {
  engine_.SetSubmitStatus(absl::ResourceExhaustedError("queue full"));
  EXPECT_EQ(Refusal(Request("a")).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(WorkerServiceTest, LoadAndDrain) {
  engine_.SetLoad({.running = 3, .pages_total = 9});
  grpc::ClientContext load_context;
  v1::WorkerLoad load;
  ASSERT_TRUE(stub_->GetLoad(&load_context, {}, &load).ok());
  EXPECT_EQ(load.running(), 3);
  EXPECT_EQ(load.pages_total(), 9);
  grpc::ClientContext drain_context;
  internal::v1::DrainResponse drained;
  ASSERT_TRUE(stub_->Drain(&drain_context, {}, &drained).ok());
  EXPECT_EQ(drains_, 1);
}

TEST(WorkerServiceLoading, IsUnavailableUntilTheEngineIsThere) {
  FixedClock clock;
  EpochTable epochs(false);
  WorkerService service(&clock, &epochs, [] {});
  auto server =
      GrpcServer::Start({}, {{internal::v1::WorkerService::service_full_name(), &service}});
  ASSERT_TRUE(server.ok());
  auto stub = internal::v1::WorkerService::NewStub(
      grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  internal::v1::GenerateRequest request;
  request.set_request_id("a");
  auto reader = stub->Generate(&context, request);
  internal::v1::TokenChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace krait
