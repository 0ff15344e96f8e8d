#include "worker/server/draft_messages.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/status_macros.h"
#include "worker/server/proto_conversion.h"

namespace krait {
namespace {

constexpr size_t kMaxTargetIdBytes = 128;
constexpr int64_t kMaxBudgetUs = 10'000'000;

absl::Status CheckTarget(const std::string& id) {
  if (!id.empty() && id.size() <= kMaxTargetIdBytes) return absl::OkStatus();
  return FieldError("target_instance_id",
                    absl::StrCat("must be 1 to ", kMaxTargetIdBytes, " bytes, got ", id.size()));
}

absl::StatusOr<DraftUpdate> ParseUpdate(const internal::v1::SequenceUpdate& proto,
                                        const internal::v1::DescribeResponse& draft) {
  DraftUpdate update;
  update.sequence_id = proto.sequence_id();
  update.from_position = proto.from_position();
  if (update.from_position < 0 || update.from_position > draft.max_context_tokens()) {
    return FieldError("from_position", absl::StrCat("must be 0 to ", draft.max_context_tokens(),
                                                    ", got ", update.from_position));
  }
  for (int32_t id : proto.token_ids()) {
    if (id < 0 || id >= draft.vocab_size()) {
      return FieldError("token_ids",
                        absl::StrCat("must be 0 to ", draft.vocab_size() - 1, ", got ", id));
    }
  }
  update.tokens.assign(proto.token_ids().begin(), proto.token_ids().end());
  const ModelLimits limits{.max_context_tokens = draft.max_context_tokens(),
                           .vocab_size = draft.vocab_size()};
  RETURN_IF_ERROR(CheckSampling(proto.sampling(), limits));
  update.sampling = FromProto(proto.sampling());
  update.sampling.seed = proto.seed();
  update.prompt_tokens = proto.prompt_tokens();
  return update;
}

}  // namespace

absl::StatusOr<DraftJob> ParseCommit(const internal::v1::CommitRequest& request,
                                     const internal::v1::DescribeResponse& draft) {
  RETURN_IF_ERROR(CheckTarget(request.target_instance_id()));
  DraftJob job;
  job.target = request.target_instance_id();
  for (const auto& proto : request.updates()) {
    DraftJob::Row row;
    ASSIGN_OR_RETURN(row.update, ParseUpdate(proto, draft));
    job.rows.push_back(std::move(row));
  }
  return job;
}

absl::StatusOr<DraftJob> ParsePropose(const internal::v1::ProposeRequest& request,
                                      const internal::v1::DescribeResponse& draft,
                                      absl::Duration now) {
  RETURN_IF_ERROR(CheckTarget(request.target_instance_id()));
  DraftJob job;
  job.target = request.target_instance_id();
  job.propose = true;
  job.deadline =
      now + absl::Microseconds(std::clamp(request.budget_us(), int64_t{0}, kMaxBudgetUs));
  for (const auto& proto : request.rows()) {
    DraftJob::Row row;
    ASSIGN_OR_RETURN(row.update, ParseUpdate(proto.update(), draft));
    row.num_draft_tokens = std::clamp(proto.num_draft_tokens(), 0, draft.max_draft_tokens());
    row.base_position = proto.base_position();
    row.base_hash = proto.base_hash();
    job.rows.push_back(std::move(row));
  }
  return job;
}

}  // namespace krait
