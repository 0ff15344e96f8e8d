#include "tests/support/fake_worker.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/build_info.h"
#include "common/logging.h"

namespace krait {
namespace {

using internal::v1::GenerateRequest;
using internal::v1::RegisterRequest;
using internal::v1::TokenChunk;

constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr absl::Duration kCancelPoll = absl::Milliseconds(2);

}  // namespace

FakeStep Chunk(int first_index, std::vector<int> token_ids) {
  FakeStep step;
  step.chunk.set_first_index(first_index);
  for (int id : token_ids) step.chunk.add_token_ids(id);
  return step;
}

FakeStep LastChunk(int first_index, std::vector<int> token_ids, v1::FinishReason reason) {
  FakeStep step = Chunk(first_index, std::move(token_ids));
  step.chunk.set_finish_reason(reason);
  return step;
}

FakeStep OfChoice(int choice, FakeStep step) {
  step.chunk.set_choice(choice);
  return step;
}

FakeStep WaitForRelease() { return {.kind = FakeStep::Kind::kWaitForRelease}; }

FakeStep WaitForCancel() { return {.kind = FakeStep::Kind::kWaitForCancel}; }

FakeStep EndWith(grpc::StatusCode code) {
  return {.kind = FakeStep::Kind::kEnd, .status = grpc::Status(code, "scripted")};
}

FakeWorker::FakeWorker(std::string name) : name_(std::move(name)) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeWorker::~FakeWorker() {
  Release();
  Kill();
}

void FakeWorker::SetScripts(std::deque<FakeScript> scripts) {
  absl::MutexLock lock(&mutex_);
  scripts_ = std::move(scripts);
}

void FakeWorker::Release() {
  absl::MutexLock lock(&mutex_);
  released_ = true;
}

void FakeWorker::Kill() { server_->Shutdown(std::chrono::system_clock::now()); }

RegisterRequest FakeWorker::Registration(const std::string& model,
                                         const std::string& tokenizer_digest) const {
  RegisterRequest request;
  request.set_wire_version(kWireVersion);
  request.set_instance_id(absl::StrCat(name_, "-life-1"));
  request.set_max_context_tokens(1000);
  request.set_vocab_size(260);
  v1::Worker& worker = *request.mutable_worker();
  worker.set_name(name_);
  worker.set_role(v1::WORKER_ROLE_TARGET);
  worker.set_address(address_);
  worker.set_pid(getpid());
  worker.set_model(model);
  worker.set_build_id("build");
  worker.set_weights_digest("weights");
  worker.set_tokenizer_digest(tokenizer_digest);
  v1::Rank& rank = *worker.add_ranks();
  rank.set_device("cpu:0");
  return request;
}

int FakeWorker::calls() const {
  absl::MutexLock lock(&mutex_);
  return calls_;
}

int FakeWorker::live() const {
  absl::MutexLock lock(&mutex_);
  return live_;
}

int FakeWorker::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

GenerateRequest FakeWorker::last_request() const {
  absl::MutexLock lock(&mutex_);
  return last_request_;
}

bool FakeWorker::AwaitCalls(int count) const {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return calls_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience);
}

bool FakeWorker::AwaitCancelled(int count) const {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return cancelled_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience);
}

std::vector<int> FakeWorker::stopped_choices() const {
  absl::MutexLock lock(&mutex_);
  return stopped_choices_;
}

bool FakeWorker::AwaitStopped(int count) const {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int>(stopped_choices_.size()) >= count;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience);
}

bool FakeWorker::AwaitIdle() const {
  absl::MutexLock lock(&mutex_);
  const auto idle = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_ == 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(&idle), kPatience);
}

grpc::Status FakeWorker::Generate(grpc::ServerContext* context, const GenerateRequest* request,
                                  grpc::ServerWriter<TokenChunk>* writer) {
  const grpc::Status status = Play(Begin(*request), context, writer);
  absl::MutexLock lock(&mutex_);
  --live_;
  // A write that failed may be ahead of what IsCancelled says.
  cancelled_ += context->IsCancelled() || status.error_code() == grpc::StatusCode::CANCELLED;
  return status;
}

grpc::Status FakeWorker::StopChoice(grpc::ServerContext*,
                                    const internal::v1::StopChoiceRequest* request,
                                    internal::v1::StopChoiceResponse*) {
  absl::MutexLock lock(&mutex_);
  EXPECT_EQ(request->request_id(), last_request_.request_id());
  stopped_choices_.push_back(request->choice());
  return grpc::Status::OK;
}

FakeScript FakeWorker::Begin(const GenerateRequest& request) {
  absl::MutexLock lock(&mutex_);
  last_request_ = request;
  ++calls_;
  ++live_;
  if (scripts_.empty()) return {};
  FakeScript script = scripts_.front();
  if (scripts_.size() > 1) scripts_.pop_front();
  return script;
}

grpc::Status FakeWorker::Play(const FakeScript& script, grpc::ServerContext* context,
                              grpc::ServerWriter<TokenChunk>* writer) {
  for (const FakeStep& step : script) {
    switch (step.kind) {
      case FakeStep::Kind::kChunk:
        if (!writer->Write(step.chunk)) return grpc::Status::CANCELLED;
        break;
      case FakeStep::Kind::kWaitForRelease:
      case FakeStep::Kind::kWaitForCancel:
        if (!Wait(step, context)) return grpc::Status::CANCELLED;
        break;
      case FakeStep::Kind::kEnd:
        return step.status;
    }
  }
  return grpc::Status::OK;
}

bool FakeWorker::Wait(const FakeStep& step, grpc::ServerContext* context) {
  // A synchronous gRPC handler learns of a cancel only by asking.
  while (!context->IsCancelled()) {
    {
      absl::MutexLock lock(&mutex_);
      if (step.kind == FakeStep::Kind::kWaitForRelease && released_) return true;
    }
    absl::SleepFor(kCancelPoll);
  }
  return false;
}

}  // namespace krait
