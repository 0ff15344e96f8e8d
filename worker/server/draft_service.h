#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "krait/internal/v1/draft.grpc.pb.h"
#include "worker/server/draft_runner.h"

namespace krait {

// DraftService over a runner. gRPC's threads check and queue; the runner's thread answers. A full
// queue is RESOURCE_EXHAUSTED at once: a proposal that waits is worth nothing. Thread-safe.
class DraftService final : public internal::v1::DraftService::CallbackService {
 public:
  explicit DraftService(const Clock* clock) : clock_(clock) {}

  // Until this is called, every call is answered UNAVAILABLE ("loading"). `runner` outlives all
  // calls; `description` is what Describe answers.
  void SetRunner(DraftRunner* runner, internal::v1::DescribeResponse description);

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const internal::v1::DescribeRequest* request,
                                     internal::v1::DescribeResponse* response) override;
  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context,
                                   const internal::v1::CommitRequest* request,
                                   internal::v1::CommitResponse* response) override;
  grpc::ServerUnaryReactor* Propose(grpc::CallbackServerContext* context,
                                    const internal::v1::ProposeRequest* request,
                                    internal::v1::ProposeResponse* response) override;
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const internal::v1::ReleaseRequest* request,
                                    internal::v1::ReleaseResponse* response) override;

 private:
  grpc::ServerUnaryReactor* Post(grpc::CallbackServerContext* context, absl::StatusOr<DraftJob> job,
                                 std::function<void(std::vector<DraftJob::Answer>)> fill);

  const Clock* const clock_;
  internal::v1::DescribeResponse description_;  // constant once runner_ is set
  std::atomic<DraftRunner*> runner_{nullptr};
};

}  // namespace krait
