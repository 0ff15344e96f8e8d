#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/core/tensor.h"

namespace krait {

// A product whose reduced dimension is spread over ranks. Every rank passes the sums of the blocks
// it owns; every rank receives residual + (block 0 + block 1 + ...), added in block order whatever
// the number of ranks, so the result has the same bits at every degree (kernels/ops/linear.h).
// Rank r of R owns OwnedUnits(num_blocks, r, R); num_rows and n are the same on every rank. On GPUs
// a rank owns one block, its own: the bits are then those of this degree.
struct BlockReduction {
  // Peers may still read these when the call returns: they must not change before this rank's next
  // reduction has returned (on GPUs: has run). So a caller alternates between two buffers.
  TensorView partials;                   // [own blocks, num_rows, n] dense f32
  int64_t first_block = 0;               // the first own one
  int64_t num_blocks = 0;                // over all ranks
  const TensorView* residual = nullptr;  // [num_rows, n]; may be `out` itself
  TensorView out;                        // [num_rows, n]
};

// One rank's end of a tensor-parallel group. Every rank makes the same calls in the same order; a
// call returns when this rank's result is there. Waiting blocks, it does not spin. Rank thread
// only, except Abort. After Abort, or the loss of a peer, every call returns UNAVAILABLE, on every
// rank.
//
// On a GPU AllReduceSum is one more op of the backend: it returns once it is ordered behind the
// others, can be recorded with them (Backend::Record), and Await tells whether it has run.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Before anything else waits for the device: returns once the group is formed and the backend has
  // run the ops called so far. UNAVAILABLE, never later than the group's time limit, if that will
  // not be. Not while ops are recorded.
  virtual absl::Status Await() = 0;
  virtual absl::Status AllReduceSum(const BlockReduction& reduction) = 0;
  // Host memory. recv: size() * send.size() bytes, in rank order. Every rank sends the same number
  // of bytes.
  virtual absl::Status AllGather(absl::Span<const std::byte> send, absl::Span<std::byte> recv) = 0;
  // UNAVAILABLE once the group is aborted. Does not wait for peers.
  virtual absl::Status CheckHealth() = 0;
  // From any thread: wakes every rank that waits.
  virtual void Abort() = 0;
};

}  // namespace krait
