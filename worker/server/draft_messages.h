#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "krait/internal/v1/draft.pb.h"
#include "worker/server/draft_runner.h"

namespace krait {

// A target's requests as jobs for the runner; `draft` is what Describe answers. A FieldError names
// what is out of range: nothing that a target sends reaches the model unchecked. `reply` is left to
// the caller.
absl::StatusOr<DraftJob> ParseCommit(const internal::v1::CommitRequest& request,
                                     const internal::v1::DescribeResponse& draft);
// `now`: the job's deadline is the request's budget (0 to 10 s) after it.
absl::StatusOr<DraftJob> ParsePropose(const internal::v1::ProposeRequest& request,
                                      const internal::v1::DescribeResponse& draft,
                                      absl::Duration now);

}  // namespace krait
