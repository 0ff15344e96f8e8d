#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "worker/comm/communicator.h"
#include "worker/comm/nccl_api.h"
#include "worker/comm/nccl_comm.h"

namespace krait {

struct NcclOptions {
  int rank = 0;
  int size = 1;
  std::string unique_id;  // of this group: NcclUniqueId's, the same on all ranks
  NcclLimits limits;
};

// An id for a group that is to be formed. One process makes it and gives it to the others by other
// means. UNAVAILABLE in NCCL's words.
absl::StatusOr<std::string> NcclUniqueId(NcclApi* api);

// Sums over ranks on GPUs of their own: NCCL gathers the ranks' partial sums on the backend's
// stream, and an op adds them up in rank order. Never NCCL's own sums: from three ranks on, their
// order depends on the message's size, which would make a row's bits depend on its batch.
//
// What lies on the host is gathered by `host`, the same ranks' communicator between threads or
// processes: a few numbers a step, which would take longer by way of the GPU.
class NcclCommunicator final : public Communicator {
 public:
  // Starts to form the group, on the rank's thread; Await tells when it is there. `api` outlives
  // the process's last call of it, `backend` the communicator, which outlives recorded ops.
  static absl::StatusOr<std::unique_ptr<NcclCommunicator>> Start(
      const NcclOptions& options, NcclApi* api, Backend* backend,
      std::unique_ptr<Communicator> host);

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }
  absl::Status Await() override;
  // One block a rank.
  absl::Status AllReduceSum(const BlockReduction& reduction) override;
  absl::Status AllGather(absl::Span<const std::byte> send, absl::Span<std::byte> recv) override;
  absl::Status CheckHealth() override;
  void Abort() override;

 private:
  NcclCommunicator(const NcclOptions& options, NcclApi* api, Backend* backend,
                   std::unique_ptr<Communicator> host);
  absl::StatusOr<float*> ReserveGathered(int64_t count);
  // The same, and then the group is aborted.
  absl::Status Ended(absl::Status status);

  const NcclOptions options_;
  Backend* const backend_;
  const std::unique_ptr<Communicator> host_;
  // All ranks' partial sums. The last is the largest; recorded ops still use the others.
  std::vector<Tensor> gathered_;
  std::vector<const float*> blocks_;
  NcclComm comm_;
};

}  // namespace krait
