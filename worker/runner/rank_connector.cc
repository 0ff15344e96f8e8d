#include "worker/runner/rank_connector.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/comm/gloo_communicator.h"
#include "worker/comm/in_process_communicator.h"

namespace krait {
namespace {

// All ranks are threads of this process.
class InProcessConnector final : public RankConnector {
 public:
  explicit InProcessConnector(absl::Span<Backend* const> backends)
      : comms_(CreateInProcessGroup(backends)) {}
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

}  // namespace

absl::StatusOr<std::unique_ptr<RankConnector>> MakeRankConnector(
    const RankGroupOptions& options, absl::Span<Backend* const> backends, ProcessGroup* processes) {
  if (processes == nullptr) return std::make_unique<InProcessConnector>(backends);
  auto gloo =
      std::make_unique<GlooConnector>(options.own_ranks(), options.tensor_parallel_size, backends);
  RETURN_IF_ERROR(gloo->SwapAddresses(*processes));
  return gloo;
}

}  // namespace krait
