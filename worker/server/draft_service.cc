#include "worker/server/draft_service.h"

#include "common/grpc_status.h"
#include "worker/server/draft_messages.h"

namespace krait {
namespace {

absl::Status Loading() { return absl::UnavailableError("the draft is loading its model"); }

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

void DraftService::SetRunner(DraftRunner* runner, internal::v1::DescribeResponse description) {
  description_ = std::move(description);
  runner_.store(runner, std::memory_order_release);
}

grpc::ServerUnaryReactor* DraftService::Describe(grpc::CallbackServerContext* context,
                                                 const internal::v1::DescribeRequest*,
                                                 internal::v1::DescribeResponse* response) {
  if (runner_.load(std::memory_order_acquire) == nullptr) return Answer(context, Loading());
  *response = description_;
  return Answer(context, absl::OkStatus());
}

// `fill` writes the response, which lives until the reactor has finished.
grpc::ServerUnaryReactor* DraftService::Post(
    grpc::CallbackServerContext* context, absl::StatusOr<DraftJob> job,
    std::function<void(std::vector<DraftJob::Answer>)> fill) {
  if (!job.ok()) return Answer(context, job.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  job->reply = [reactor, fill = std::move(fill)](std::vector<DraftJob::Answer> answers) {
    fill(std::move(answers));
    reactor->Finish(grpc::Status::OK);
  };
  DraftRunner* runner = runner_.load(std::memory_order_acquire);
  if (!runner->TryPost(*std::move(job))) {
    reactor->Finish(ToGrpcStatus(absl::ResourceExhaustedError("the draft's queue is full")));
  }
  return reactor;
}

grpc::ServerUnaryReactor* DraftService::Commit(grpc::CallbackServerContext* context,
                                               const internal::v1::CommitRequest* request,
                                               internal::v1::CommitResponse* response) {
  if (runner_.load(std::memory_order_acquire) == nullptr) return Answer(context, Loading());
  return Post(context, ParseCommit(*request, description_),
              [this, response](std::vector<DraftJob::Answer> answers) {
                response->set_instance_id(description_.instance_id());
                for (const DraftJob::Answer& answer : answers) {
                  auto* known = response->add_known();
                  known->set_sequence_id(answer.sequence_id);
                  known->set_known_tokens(answer.known_tokens);
                }
              });
}

grpc::ServerUnaryReactor* DraftService::Propose(grpc::CallbackServerContext* context,
                                                const internal::v1::ProposeRequest* request,
                                                internal::v1::ProposeResponse* response) {
  if (runner_.load(std::memory_order_acquire) == nullptr) return Answer(context, Loading());
  return Post(context, ParsePropose(*request, description_, clock_->Now()),
              [this, round = request->round(), response](std::vector<DraftJob::Answer> answers) {
                response->set_instance_id(description_.instance_id());
                response->set_round(round);
                for (const DraftJob::Answer& answer : answers) {
                  auto* proposal = response->add_proposals();
                  proposal->set_sequence_id(answer.sequence_id);
                  proposal->set_base_position(answer.known_tokens);
                  proposal->set_base_hash(answer.hash);
                  proposal->set_known_tokens(answer.known_tokens);
                  proposal->mutable_token_ids()->Add(answer.drafts.begin(), answer.drafts.end());
                }
              });
}

grpc::ServerUnaryReactor* DraftService::Release(grpc::CallbackServerContext* context,
                                                const internal::v1::ReleaseRequest* request,
                                                internal::v1::ReleaseResponse*) {
  DraftRunner* runner = runner_.load(std::memory_order_acquire);
  if (runner == nullptr) return Answer(context, Loading());
  std::vector<int64_t> ids(request->sequence_ids().begin(), request->sequence_ids().end());
  const bool queued = runner->TryRelease(request->target_instance_id(), std::move(ids));
  return Answer(context, queued ? absl::OkStatus()
                                : absl::ResourceExhaustedError("the draft's queue is full"));
}

}  // namespace krait
