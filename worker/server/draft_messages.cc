#include "worker/server/draft_messages.h"

#include <algorithm>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/field_error.h"
#include "common/status_macros.h"
#include "worker/server/proto_conversion.h"

namespace krait {
namespace {

constexpr size_t kMaxTargetIdBytes = 128;
constexpr int kMaxEndTokenIds = 128;
constexpr int64_t kMaxBudgetUs = 10'000'000;

absl::Status CheckTarget(const std::string& id) {
  if (!id.empty() && id.size() <= kMaxTargetIdBytes) return absl::OkStatus();
  return FieldError("target_instance_id",
                    absl::StrCat("must be 1 to ", kMaxTargetIdBytes, " bytes, got ", id.size()));
}

absl::Status CheckIds(std::string_view field, const google::protobuf::RepeatedField<int32_t>& ids,
                      const internal::v1::DescribeResponse& draft) {
  for (int32_t id : ids) {
    if (id >= 0 && id < draft.vocab_size()) continue;
    return FieldError(field, absl::StrCat("must be 0 to ", draft.vocab_size() - 1, ", got ", id));
  }
  return absl::OkStatus();
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
  RETURN_IF_ERROR(CheckIds("token_ids", proto.token_ids(), draft));
  RETURN_IF_ERROR(CheckIds("end_token_ids", proto.end_token_ids(), draft));
  if (proto.end_token_ids_size() > kMaxEndTokenIds) {
    return FieldError("end_token_ids", absl::StrCat("at most ", kMaxEndTokenIds, " entries, got ",
                                                    proto.end_token_ids_size()));
  }
  update.tokens.assign(proto.token_ids().begin(), proto.token_ids().end());
  // The target's context, which min_tokens has been checked against, may be longer than the
  // draft's.
  const ModelLimits limits{.max_context_tokens = std::numeric_limits<int32_t>::max(),
                           .vocab_size = draft.vocab_size()};
  RETURN_IF_ERROR(CheckSampling(proto.sampling(), limits));
  update.sampling = FromProto(proto.sampling());
  update.sampling.seed = proto.seed();
  update.sampling.choice = proto.choice();
  const std::set<TokenId> end_ids(proto.end_token_ids().begin(), proto.end_token_ids().end());
  update.sampling.end_ids.assign(end_ids.begin(), end_ids.end());
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
