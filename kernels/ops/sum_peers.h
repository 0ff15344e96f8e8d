#pragma once

#include "kernels/core/tensor.h"

namespace krait {

// Where ranks of one process meet that read each other's memory (kernels/ops/peer_meeting.h).
class PeerBoard {
 public:
  static constexpr int kMaxRanks = 64;
  virtual ~PeerBoard() = default;
  virtual int num_ranks() const = 0;
  // Any thread. Who waits goes on, and nobody waits any more; sums are then worth nothing.
  virtual void Abort() = 0;
};

// out = residual + ((p0 + p1) + p2) + ... of the `partial`s of all ranks, in rank order, each
// reading its peers'. Every rank makes the same calls in the same order; the op ends when the peers
// have come to it, in the devices' time: nothing of it needs the host, so it can be recorded.
struct SumPeersParams {
  PeerBoard* board = nullptr;
  int rank = 0;
  TensorView partial;  // [num_rows, n] dense f32; must rest until this rank's next SumPeers has run
  const TensorView* residual = nullptr;  // [num_rows, n], f32; may be `out` itself
  TensorView out;                        // [num_rows, n], f32
};

}  // namespace krait
