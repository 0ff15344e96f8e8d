#pragma once

// How ranks that read each other's memory meet with nobody in between: the same text for the
// threads of a CPU and the kernels of a GPU.
//
// Each rank has a cell that it alone writes. At its meeting m (0, 1, ...) it first shows where its
// data lie, in the place for m's parity, then says that it has come to m + 1 meetings; it has met a
// peer once the peer has said so too. A place is written again two meetings later: by then every
// peer has come to the one in between, so has read it. The data rest as long, until the rank's next
// meeting is over.

#include <cstdint>

#include "common/fast_math.h"

namespace krait {

// One rank's, in a line of its own; all zeros at first.
struct alignas(128) PeerCell {
  const float* data[2];  // by a meeting's parity
  uint32_t num_meetings;
};

// `Memory` has Acquire(word), Release(word, value), Aborted() and Pause().
template <typename Memory>
KRAIT_HOST_DEVICE void ShowPeers(PeerCell& own, uint32_t meeting, const float* data,
                                 const Memory& memory) {
  own.data[meeting & 1] = data;
  memory.Release(own.num_meetings, meeting + 1);
}

// What a peer shows at this meeting; null if there was an abort before it came.
template <typename Memory>
KRAIT_HOST_DEVICE const float* AwaitPeer(const PeerCell& peer, uint32_t meeting,
                                         const Memory& memory) {
  // The counts wrap around, and are never 2^31 apart.
  while (static_cast<int32_t>(memory.Acquire(peer.num_meetings) - (meeting + 1)) < 0) {
    if (memory.Aborted()) return nullptr;
    memory.Pause();
  }
  return peer.data[meeting & 1];
}

}  // namespace krait
