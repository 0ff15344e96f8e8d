#include "worker/comm/nccl_communicator.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/comm/device_wait.h"

namespace krait {

absl::StatusOr<std::string> NcclUniqueId(NcclApi* api) {
  std::string id;
  const int result = api->GetUniqueId(id);
  if (result == NcclApi::kSuccess) return id;
  return absl::UnavailableError(
      absl::StrCat("NCCL: ncclGetUniqueId: ", api->Explain(result, nullptr)));
}

absl::StatusOr<std::unique_ptr<NcclCommunicator>> NcclCommunicator::Start(
    const NcclOptions& options, NcclApi* api, Backend* backend,
    std::unique_ptr<Communicator> host) {
  CHECK_EQ(host->rank(), options.rank);
  CHECK_EQ(host->size(), options.size);
  backend->stream();  // makes the device this thread's
  std::unique_ptr<NcclCommunicator> comm(
      new NcclCommunicator(options, api, backend, std::move(host)));
  RETURN_IF_ERROR(comm->comm_.Init(options.size, options.unique_id, options.rank));
  return comm;
}

NcclCommunicator::NcclCommunicator(const NcclOptions& options, NcclApi* api, Backend* backend,
                                   std::unique_ptr<Communicator> host)
    : options_(options), backend_(backend), host_(std::move(host)), comm_(api, options.limits) {}

absl::Status NcclCommunicator::Ended(absl::Status status) {
  if (!status.ok()) Abort();
  return status;
}

absl::Status NcclCommunicator::Await() {
  RETURN_IF_ERROR(
      Ended(comm_.AwaitReady("to form the group", [this] { return host_->CheckHealth(); })));
  return Ended(AwaitIdle(*backend_, options_.limits.wait, [this] { return CheckHealth(); }));
}

absl::StatusOr<float*> NcclCommunicator::ReserveGathered(int64_t count) {
  if (gathered_.empty() || gathered_.back().shape().num_elements() < count) {
    // Twice as much: all of them together are less than twice the largest.
    ASSIGN_OR_RETURN(Tensor larger, backend_->Allocate(DType::kF32, {2 * count}));
    gathered_.push_back(std::move(larger));
  }
  return gathered_.back().ptr<float>();
}

absl::Status NcclCommunicator::AllReduceSum(const BlockReduction& reduction) {
  const TensorView& own = reduction.partials;
  CHECK(own.dense());
  CHECK_EQ(own.dim(0), 1);
  CHECK_EQ(reduction.first_block, rank());
  CHECK_EQ(reduction.num_blocks, size());
  const int64_t count = own.dim(1) * own.dim(2);
  ASSIGN_OR_RETURN(float* all, ReserveGathered(count * size()));
  RETURN_IF_ERROR(Ended(comm_.AllGather(own.ptr<const float>(), all, count, backend_->stream(),
                                        [this] { return host_->CheckHealth(); })));
  blocks_.clear();
  for (int r = 0; r < size(); ++r) blocks_.push_back(all + r * count);
  backend_->SumBlocks({.blocks = blocks_, .residual = reduction.residual, .out = reduction.out});
  return absl::OkStatus();
}

absl::Status NcclCommunicator::AllGather(absl::Span<const std::byte> send,
                                         absl::Span<std::byte> recv) {
  return Ended(host_->AllGather(send, recv));
}

absl::Status NcclCommunicator::CheckHealth() {
  RETURN_IF_ERROR(Ended(comm_.Ready().status()));
  return Ended(host_->CheckHealth());
}

void NcclCommunicator::Abort() {
  comm_.Abort();
  host_->Abort();
}

}  // namespace krait
