// A bad request gets an error that names field and limit, and changes nothing else: the streams
// beside it are compared, bit for bit, with a run that nobody disturbed.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/grpc_status.h"
#include "krait/internal/v1/worker.grpc.pb.h"
#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"
#include "tests/support/bad_sampling.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

constexpr int kVocabSize = 512;

struct BadRequest {
  std::string field;
  std::string limit;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  v1::GenerateRequest request;
};

std::vector<BadRequest> BadRequests() {
  std::vector<BadRequest> all;
  const auto add = [&](const std::string& field, const std::string& limit) -> auto& {
    all.push_back({.field = field, .limit = limit, .request = GreedyRequest("good", 8)});
    return all.back();
  };
  add("prompt", "at least one token").request.set_prompt("");
  add("prompt", "offset 4").request.set_prompt("bad \xff");
  add("prompt", "context of 2048").request.set_prompt(std::string(100'000, '!'));
  add("prompt_token_ids[0]", "0 to 511").request.mutable_prompt_token_ids()->add_ids(kVocabSize);
  add("prompt_token_ids[0]", "0 to 511").request.mutable_prompt_token_ids()->add_ids(-1);
  add("input", "must be set").request.clear_input();
  add("max_draft_tokens", "0 to 15").request.set_max_draft_tokens(16);
  add("request_id", "1 to 128").request.set_request_id("a b");
  add("sampling.max_tokens", "context of 2048").request.mutable_sampling()->set_max_tokens(2048);
  BadRequest& unknown = add("", "not served here");
  unknown.request.set_model("other");
  unknown.code = absl::StatusCode::kNotFound;
  for (const testing::BadSampling& bad : testing::BadSamplings(kVocabSize)) {
    BadRequest& request = add(bad.field, bad.limit);
    request.request.mutable_sampling()->set_max_tokens(8);
    bad.edit(*request.request.mutable_sampling());
  }
  return all;
}

// What the coordinator would have stopped, sent to the worker by a client that goes around it.
absl::Status SendToWorker(Cluster& cluster, const testing::BadSampling& bad) {
  const v1::ListWorkersResponse workers = cluster.ListWorkers();
  for (const v1::Worker& worker : workers.workers()) {
    if (worker.role() != v1::WORKER_ROLE_TARGET) continue;
    auto stub = internal::v1::WorkerService::NewStub(
        grpc::CreateChannel(worker.address(), grpc::InsecureChannelCredentials()));
    internal::v1::GenerateRequest request;
    request.set_request_id("around");
    request.set_epoch(worker.epoch());
    request.add_prompt_token_ids(5);
    request.mutable_sampling()->set_max_tokens(8);
    bad.edit(*request.mutable_sampling());
    grpc::ClientContext context;
    auto reader = stub->Generate(&context, request);
    internal::v1::TokenChunk chunk;
    while (reader->Read(&chunk)) ADD_FAILURE() << bad.field << ": tokens";
    return FromGrpcStatus(reader->Finish());
  }
  return absl::NotFoundError("no worker");
}

// Streams the requests, calls `disturb` again and again while they run, at least once, and compares
// each with its run alone.
void ExpectUndisturbed(Cluster& cluster, const std::vector<v1::GenerateRequest>& requests,
                       const std::function<void()>& disturb) {
  std::vector<GenerateOutcome> alone, disturbed(requests.size());
  for (const v1::GenerateRequest& request : requests) alone.push_back(cluster.Generate(request));

  std::atomic<size_t> begun = 0;
  std::atomic<size_t> live = requests.size();
  std::vector<std::thread> streams;
  for (size_t i = 0; i < requests.size(); ++i) {
    streams.emplace_back([&, i] {
      bool first = true;
      disturbed[i] =
          cluster.Generate(requests[i], [&](const v1::GenerateResponse&, grpc::ClientContext&) {
            if (std::exchange(first, false)) ++begun;
          });
      --live;
    });
  }
  while (begun < requests.size() && live > 0) std::this_thread::yield();
  do {
    disturb();
  } while (live > 0);
  for (std::thread& stream : streams) stream.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_TRUE(disturbed[i].status.ok()) << disturbed[i].status.error_message();
    EXPECT_EQ(disturbed[i].choices, alone[i].choices) << i;
    EXPECT_EQ(disturbed[i].logprobs, alone[i].logprobs) << i;
    EXPECT_EQ(disturbed[i].text, alone[i].text) << i;
  }
}

TEST(BadRequestTest, NamesFieldAndLimitAndChangesNoOtherStream) {
  Cluster cluster(TargetModel());
  const std::string draft = cluster.AddDraft("draft", DraftModel("noisy")).listen();
  WorkerConfig& target = cluster.AddTarget("target");
  target.set_draft_address(draft);
  target.set_proposal_deadline_ms(200);
  cluster.Start();
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 3; ++i) {
    v1::GenerateRequest request = SeededRequest(absl::StrCat("stream ", i), 1500, i);
    request.set_request_id(absl::StrCat("stream-", i));
    if (i == 1) request.mutable_sampling()->set_n(2);
    requests.push_back(request);
  }
  ExpectUndisturbed(cluster, requests, [&] {
    for (const BadRequest& bad : BadRequests()) {
      const absl::Status status = FromGrpcStatus(cluster.Generate(bad.request).status);
      EXPECT_EQ(status.code(), bad.code) << status;
      EXPECT_EQ(ErrorField(status), bad.field) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(bad.limit));
    }
    for (const testing::BadSampling& bad : testing::BadSamplings(kVocabSize)) {
      const absl::Status status = SendToWorker(cluster, bad);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
      EXPECT_EQ(ErrorField(status), bad.field) << status;
    }
  });
}

// A row that is not finite: before its first token, and in the midst of a stream that a bias makes
// draw the token.
TEST(NonFiniteTest, EndsItsRequestAndChangesNoOtherStream) {
  Cluster cluster(OverflowModel());
  cluster.AddTarget("target", 2).set_ngram(true);
  cluster.Start();
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 3; ++i) {
    requests.push_back(SeededRequest(absl::StrCat("stream ", i), 800, i));
    (*requests.back().mutable_sampling()->mutable_logit_bias())[kOverflowToken] = -100;
  }
  v1::GenerateRequest at_once = GreedyRequest("", 8);
  for (int id : {10, kOverflowToken, 11}) at_once.mutable_prompt_token_ids()->add_ids(id);
  v1::GenerateRequest later = GreedyRequest("later", 8);
  (*later.mutable_sampling()->mutable_logit_bias())[kOverflowToken] = 100;
  ExpectUndisturbed(cluster, requests, [&] {
    const GenerateOutcome never = cluster.Generate(at_once);
    EXPECT_EQ(never.status.error_code(), grpc::INTERNAL) << never.status.error_message();
    EXPECT_THAT(never.token_ids, ::testing::IsEmpty());
    const GenerateOutcome broken = cluster.Generate(later);
    EXPECT_EQ(broken.status.error_code(), grpc::INTERNAL) << broken.status.error_message();
    EXPECT_THAT(broken.token_ids, ::testing::ElementsAre(kOverflowToken));
  });
}

}  // namespace
}  // namespace krait
