// The plain twin of a GPU's: ops of a CPU end when they return, so the thread waits for its peers.

#include "kernels/cpu/sum_peers.h"

#include <array>
#include <atomic>
#include <thread>

#include "common/logging.h"
#include "kernels/cpu/cpu_peer_board.h"

namespace krait::kernels {
namespace {

struct ThreadMemory {
  const CpuPeerBoard& board;

  uint32_t Acquire(const uint32_t& word) const {
    return std::atomic_ref<uint32_t>(const_cast<uint32_t&>(word)).load(std::memory_order_acquire);
  }
  void Release(uint32_t& word, uint32_t value) const {
    std::atomic_ref<uint32_t>(word).store(value, std::memory_order_release);
  }
  bool Aborted() const { return board.aborted(); }
  void Pause() const { std::this_thread::yield(); }
};

}  // namespace

void RunSumPeers(const CpuContext& context, const SumPeersParams& params) {
  CHECK(params.partial.dense());
  CHECK(params.partial.shape == params.out.shape);
  auto& board = static_cast<CpuPeerBoard&>(*params.board);
  const ThreadMemory memory{board};
  PeerCell& own = board.cell(params.rank);
  const uint32_t meeting = own.num_meetings;
  ShowPeers(own, meeting, params.partial.ptr<const float>(), memory);
  std::array<const float*, PeerBoard::kMaxRanks> blocks;
  for (int rank = 0; rank < board.num_ranks(); ++rank) {
    blocks[rank] = AwaitPeer(board.cell(rank), meeting, memory);
    if (blocks[rank] == nullptr) return;
  }
  RunSumBlocks(context, {.blocks = absl::MakeConstSpan(blocks).subspan(0, board.num_ranks()),
                         .residual = params.residual,
                         .out = params.out});
}

}  // namespace krait::kernels
