#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/core/tensor.h"
#include "kernels/ops/peer_meeting.h"
#include "kernels/ops/sum_peers.h"

namespace krait::kernels {

// Cells in device memory, for kernels of any stream of that device, and a flag in host memory that
// ends their waiting. Goes when no kernel uses it any more.
class CudaPeerBoard final : public PeerBoard {
 public:
  // On the current device. RESOURCE_EXHAUSTED names the bytes.
  static absl::StatusOr<std::unique_ptr<CudaPeerBoard>> Create(int device, int num_ranks);
  ~CudaPeerBoard() override;
  CudaPeerBoard(const CudaPeerBoard&) = delete;

  int num_ranks() const override { return num_ranks_; }
  void Abort() override { *static_cast<volatile uint32_t*>(aborted_) = 1; }

  PeerCell* cells() const { return cells_.ptr<PeerCell>(); }
  const uint32_t* aborted() const { return aborted_; }  // as kernels see it too

 private:
  CudaPeerBoard(Tensor cells, uint32_t* aborted, int num_ranks)
      : cells_(std::move(cells)), aborted_(aborted), num_ranks_(num_ranks) {}

  const Tensor cells_;       // [num_ranks] PeerCell
  uint32_t* const aborted_;  // pinned
  const int num_ranks_;
};

}  // namespace krait::kernels
