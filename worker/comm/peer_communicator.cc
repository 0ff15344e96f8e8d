#include "worker/comm/peer_communicator.h"

#include <utility>

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/comm/device_wait.h"
#include "worker/comm/in_process_communicator.h"

namespace krait {
namespace {

class PeerCommunicator final : public Communicator {
 public:
  PeerCommunicator(std::shared_ptr<PeerBoard> board, Backend* backend, absl::Duration wait,
                   std::unique_ptr<Communicator> host)
      : board_(std::move(board)), backend_(backend), wait_(wait), host_(std::move(host)) {}
  // Peers may need its ops, and the board goes after the last of them.
  ~PeerCommunicator() override {
    Await().IgnoreError();
    backend_->Synchronize();
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }

  absl::Status Await() override {
    const absl::Status status =
        AwaitIdle(*backend_, wait_, [this] { return host_->CheckHealth(); });
    if (!status.ok()) Abort();
    return status;
  }
  absl::Status AllReduceSum(const BlockReduction& reduction) override;
  absl::Status AllGather(absl::Span<const std::byte> send, absl::Span<std::byte> recv) override {
    return host_->AllGather(send, recv);
  }
  absl::Status CheckHealth() override { return host_->CheckHealth(); }
  // The host's first: who finds the ops ended then finds the group aborted too.
  void Abort() override {
    host_->Abort();
    board_->Abort();
  }

 private:
  const std::shared_ptr<PeerBoard> board_;
  Backend* const backend_;
  const absl::Duration wait_;
  const std::unique_ptr<Communicator> host_;  // gathers what lies on the host
};

absl::Status PeerCommunicator::AllReduceSum(const BlockReduction& reduction) {
  const TensorView& own = reduction.partials;
  CHECK_EQ(own.dim(0), 1);
  CHECK_EQ(reduction.first_block, rank());
  CHECK_EQ(reduction.num_blocks, size());
  RETURN_IF_ERROR(CheckHealth());
  backend_->SumPeers({.board = board_.get(),
                      .rank = rank(),
                      .partial = TensorView(own.data, DType::kF32, {own.dim(1), own.dim(2)}),
                      .residual = reduction.residual,
                      .out = reduction.out});
  return CheckHealth();  // on a CPU the op has waited
}

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> CreatePeerGroup(
    absl::Span<Backend* const> backends, absl::Duration wait) {
  const int size = static_cast<int>(backends.size());
  ASSIGN_OR_RETURN(std::shared_ptr<PeerBoard> board, backends[0]->MakePeerBoard(size));
  std::vector<std::unique_ptr<Communicator>> hosts = CreateInProcessGroup(backends);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int r = 0; r < size; ++r) {
    CHECK(backends[r]->device().kind == backends[0]->device().kind);
    communicators.push_back(
        std::make_unique<PeerCommunicator>(board, backends[r], wait, std::move(hosts[r])));
  }
  return communicators;
}

}  // namespace krait
