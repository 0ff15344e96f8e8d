#include "worker/server/draft_service.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "worker/server/proto_conversion.h"

namespace krait {
namespace {

constexpr size_t kMaxTargetIdBytes = 128;
constexpr int64_t kMaxBudgetUs = 10'000'000;

absl::Status Loading() { return absl::UnavailableError("the draft is loading its model"); }

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status CheckTarget(const std::string& id) {
  if (!id.empty() && id.size() <= kMaxTargetIdBytes) return absl::OkStatus();
  return FieldError("target_instance_id",
                    absl::StrCat("must be 1 to ", kMaxTargetIdBytes, " bytes, got ", id.size()));
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

absl::StatusOr<DraftUpdate> DraftService::ParseUpdate(
    const internal::v1::SequenceUpdate& proto) const {
  DraftUpdate update;
  update.sequence_id = proto.sequence_id();
  update.from_position = proto.from_position();
  if (update.from_position < 0 || update.from_position > description_.max_context_tokens()) {
    return FieldError("from_position",
                      absl::StrCat("must be 0 to ", description_.max_context_tokens(), ", got ",
                                   update.from_position));
  }
  for (int32_t id : proto.token_ids()) {
    if (id < 0 || id >= description_.vocab_size()) {
      return FieldError("token_ids",
                        absl::StrCat("must be 0 to ", description_.vocab_size() - 1, ", got ", id));
    }
  }
  update.tokens.assign(proto.token_ids().begin(), proto.token_ids().end());
  const ModelLimits limits{.max_context_tokens = description_.max_context_tokens(),
                           .vocab_size = description_.vocab_size()};
  RETURN_IF_ERROR(CheckSampling(proto.sampling(), limits));
  update.sampling = FromProto(proto.sampling());
  update.sampling.seed = proto.seed();
  update.prompt_tokens = proto.prompt_tokens();
  return update;
}

absl::StatusOr<DraftJob> DraftService::ParseCommit(
    const internal::v1::CommitRequest& request) const {
  RETURN_IF_ERROR(CheckTarget(request.target_instance_id()));
  DraftJob job;
  job.target = request.target_instance_id();
  for (const auto& proto : request.updates()) {
    DraftJob::Row row;
    ASSIGN_OR_RETURN(row.update, ParseUpdate(proto));
    job.rows.push_back(std::move(row));
  }
  return job;
}

absl::StatusOr<DraftJob> DraftService::ParsePropose(
    const internal::v1::ProposeRequest& request) const {
  RETURN_IF_ERROR(CheckTarget(request.target_instance_id()));
  DraftJob job;
  job.target = request.target_instance_id();
  job.propose = true;
  job.deadline =
      clock_->Now() + absl::Microseconds(std::clamp(request.budget_us(), int64_t{0}, kMaxBudgetUs));
  for (const auto& proto : request.rows()) {
    DraftJob::Row row;
    ASSIGN_OR_RETURN(row.update, ParseUpdate(proto.update()));
    row.num_draft_tokens = std::clamp(proto.num_draft_tokens(), 0, description_.max_draft_tokens());
    row.base_position = proto.base_position();
    row.base_hash = proto.base_hash();
    job.rows.push_back(std::move(row));
  }
  return job;
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
  return Post(context, ParseCommit(*request),
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
  return Post(context, ParsePropose(*request),
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
