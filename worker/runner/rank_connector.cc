#include "worker/runner/rank_connector.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/comm/gloo_communicator.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/nccl_library.h"
#include "worker/comm/peer_communicator.h"

namespace krait {
namespace {

// All ranks are threads of this process.
class InProcessConnector final : public RankConnector {
 public:
  explicit InProcessConnector(std::vector<std::unique_ptr<Communicator>> comms)
      : comms_(std::move(comms)) {}
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(int index) override {
    return std::move(comms_[index]);
  }

 private:
  std::vector<std::unique_ptr<Communicator>> comms_;
};

class GlooConnector final : public RankConnector {
 public:
  GlooConnector(Range own, int size, absl::Span<Backend* const> backends)
      : own_(own), size_(size), backends_(backends.begin(), backends.end()) {}

  // Every rank listens; every process tells all where its ranks are found, process 0 passing it on.
  absl::Status SwapAddresses(ProcessGroup& processes) {
    std::vector<std::string> mine;
    for (int64_t rank = own_.begin; rank < own_.end; ++rank) {
      ASSIGN_OR_RETURN(auto endpoint, GlooEndpoint::Listen({.rank = static_cast<int>(rank),
                                                            .size = size_,
                                                            .host = processes.local_host()}));
      const std::vector<std::string>& addresses = endpoint->addresses();
      mine.insert(mine.end(), addresses.begin(), addresses.end());
      endpoints_.push_back(std::move(endpoint));
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> all, processes.Exchange(PackStrings(mine)));
    for (const std::string& packed : all) {
      ASSIGN_OR_RETURN(const std::vector<std::string> theirs, UnpackStrings(packed));
      addresses_.insert(addresses_.end(), theirs.begin(), theirs.end());
    }
    if (static_cast<int>(addresses_.size()) == size_ * size_) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("got ", addresses_.size(), " addresses of ", size_ * size_));
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Connect(int index) override {
    std::vector<std::string> of_peers;
    for (int peer = 0; peer < size_; ++peer) {
      of_peers.push_back(addresses_[peer * size_ + own_.begin + index]);
    }
    return endpoints_[index]->Connect(of_peers, backends_[index]);
  }

 private:
  const Range own_;  // ranks
  const int size_;
  const std::vector<Backend*> backends_;
  std::vector<std::unique_ptr<GlooEndpoint>> endpoints_;  // of the own ranks
  std::vector<std::string> addresses_;  // [from rank, to rank]: where the first finds the second
};

class NcclConnector final : public RankConnector {
 public:
  NcclConnector(Range own, int size, absl::Span<Backend* const> backends, NcclApi* nccl,
                std::unique_ptr<RankConnector> host)
      : own_(own),
        size_(size),
        backends_(backends.begin(), backends.end()),
        nccl_(nccl),
        host_(std::move(host)) {}

  // Rank 0's process makes the id, and tells the others.
  absl::Status SwapId(ProcessGroup* processes) {
    if (own_.begin == 0) {
      ASSIGN_OR_RETURN(unique_id_, NcclUniqueId(nccl_));
    }
    if (processes == nullptr) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::vector<std::string> all, processes->Exchange(unique_id_));
    unique_id_ = all[0];
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Connect(int index) override {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> host, host_->Connect(index));
    const NcclOptions options{
        .rank = static_cast<int>(own_.begin) + index, .size = size_, .unique_id = unique_id_};
    return NcclCommunicator::Start(options, nccl_, backends_[index], std::move(host));
  }

 private:
  const Range own_;  // ranks
  const int size_;
  const std::vector<Backend*> backends_;
  NcclApi* const nccl_;
  const std::unique_ptr<RankConnector> host_;
  std::string unique_id_;
};

using Connector = absl::StatusOr<std::unique_ptr<RankConnector>>;

Connector ConnectThreads(absl::Span<Backend* const> backends) {
  const bool on_gpu = backends[0]->device().kind == DeviceKind::kCuda;
  if (!on_gpu || backends.size() == 1) {
    return std::make_unique<InProcessConnector>(CreateInProcessGroup(backends));
  }
  ASSIGN_OR_RETURN(auto comms, CreatePeerGroup(backends));
  return std::make_unique<InProcessConnector>(std::move(comms));
}

Connector ConnectGloo(const RankGroupOptions& options, absl::Span<Backend* const> backends,
                      ProcessGroup& processes) {
  auto gloo =
      std::make_unique<GlooConnector>(options.own_ranks(), options.tensor_parallel_size, backends);
  RETURN_IF_ERROR(gloo->SwapAddresses(processes));
  return gloo;
}

Connector ConnectNccl(const RankGroupOptions& options, absl::Span<Backend* const> backends,
                      ProcessGroup* processes) {
  NcclApi* nccl = options.nccl;
  if (nccl == nullptr) {
    ASSIGN_OR_RETURN(nccl, LoadNccl());
  }
  std::unique_ptr<RankConnector> host;
  if (processes == nullptr) {
    host = std::make_unique<InProcessConnector>(CreateInProcessGroup(backends));
  } else {
    ASSIGN_OR_RETURN(host, ConnectGloo(options, backends, *processes));
  }
  auto connector = std::make_unique<NcclConnector>(
      options.own_ranks(), options.tensor_parallel_size, backends, nccl, std::move(host));
  RETURN_IF_ERROR(connector->SwapId(processes));
  return connector;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RankConnector>> MakeRankConnector(
    const RankGroupOptions& options, absl::Span<Backend* const> backends, ProcessGroup* processes) {
  ASSIGN_OR_RETURN(const CommKind kind, options.comm_kind());
  switch (kind) {
    case CommKind::kInProcess:
      return ConnectThreads(backends);
    case CommKind::kGloo:
      return ConnectGloo(options, backends, *processes);
    case CommKind::kNccl:
      return ConnectNccl(options, backends, processes);
  }
  return absl::InternalError("no such comm");
}

}  // namespace krait
