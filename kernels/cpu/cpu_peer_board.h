#pragma once

#include <atomic>
#include <vector>

#include "kernels/ops/peer_meeting.h"
#include "kernels/ops/sum_peers.h"

namespace krait::kernels {

class CpuPeerBoard final : public PeerBoard {
 public:
  explicit CpuPeerBoard(int num_ranks) : cells_(num_ranks) {}
  int num_ranks() const override { return static_cast<int>(cells_.size()); }
  void Abort() override { aborted_.store(true, std::memory_order_release); }

  PeerCell& cell(int rank) { return cells_[rank]; }
  bool aborted() const { return aborted_.load(std::memory_order_acquire); }

 private:
  std::vector<PeerCell> cells_;
  std::atomic<bool> aborted_{false};
};

}  // namespace krait::kernels
