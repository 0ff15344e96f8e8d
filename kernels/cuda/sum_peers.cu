// out = residual + ((p0 + p1) + p2) + ... of the ranks' partial sums, read where they lie.
//
// Two kernels: one block meets the peers' and notes where their sums are, then any number add them
// up. Were each adding block to wait by itself, one rank's could fill the device that its peer's
// kernels need to come to the meeting. For the same reason the meeting lets no kernel start early
// that would wait beside it.

#include "common/logging.h"
#include "kernels/cuda/cuda_peer_board.h"
#include "kernels/cuda/sum_peers.h"
#include "kernels/cuda/sum_rows.cuh"

namespace krait::kernels {
namespace {

struct DeviceMemoryOrder {
  const uint32_t* aborted;

  __device__ uint32_t Acquire(const uint32_t& word) const {
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(&word) : "memory");
    return value;
  }
  // What earlier kernels of the stream wrote is released with it.
  __device__ void Release(uint32_t& word, uint32_t value) const {
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(&word), "r"(value) : "memory");
  }
  __device__ bool Aborted() const { return *static_cast<const volatile uint32_t*>(aborted) != 0; }
  __device__ void Pause() const { __nanosleep(100); }
};

// Thread r meets rank r. After an abort a peer's sum is taken from the own place: any that exists.
__global__ void __launch_bounds__(PeerBoard::kMaxRanks)
    Meet(PeerCell* cells, int rank, int num_ranks, const float* own, const uint32_t* aborted,
         const float** blocks) {
  AwaitPrevious();
  const DeviceMemoryOrder memory{aborted};
  const uint32_t meeting = memory.Acquire(cells[rank].num_meetings);
  __syncthreads();
  const int peer = static_cast<int>(threadIdx.x);
  if (peer == 0) ShowPeers(cells[rank], meeting, own, memory);
  if (peer >= num_ranks) return;
  const float* theirs = AwaitPeer(cells[peer], meeting, memory);
  blocks[peer] = theirs == nullptr ? own : theirs;
}

}  // namespace

void RunSumPeers(const CudaContext& context, const SumPeersParams& params) {
  CHECK(params.partial.dense());
  CHECK(params.partial.shape == params.out.shape);
  if (params.residual) CHECK(params.residual->shape == params.out.shape);
  if (params.out.dim(0) == 0) return;
  const auto& board = static_cast<const CudaPeerBoard&>(*params.board);
  auto** blocks = context.workspace->Get<const float*>(board.num_ranks());
  Launch(context, "SumPeers", Meet, {1, PeerBoard::kMaxRanks}, board.cells(), params.rank,
         board.num_ranks(), params.partial.ptr<const float>(), board.aborted(), blocks);
  LaunchSumRows(context, ListedBlocks{blocks}, board.num_ranks(), params.residual, params.out);
}

}  // namespace krait::kernels
