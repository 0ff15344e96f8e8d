#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace krait::kernels {

// Small copies between host and device, through pinned memory, on one stream. One thread.
class HostLink {
 public:
  explicit HostLink(cudaStream_t stream);
  ~HostLink();
  HostLink(const HostLink&) = delete;

  // Returns once `host` may be reused; what is launched later on the stream sees the copy.
  void Upload(const void* host, void* device, size_t num_bytes);
  // Waits for the stream and the copy.
  void Download(const void* device, void* host, size_t num_bytes);

 private:
  static constexpr size_t kPieceBytes = size_t{1} << 18;
  static constexpr int kNumPieces = 8;

  std::byte* piece(int index) const { return pinned_ + index * kPieceBytes; }

  const cudaStream_t stream_;
  std::byte* pinned_ = nullptr;                     // [kNumPieces, kPieceBytes]
  std::array<cudaEvent_t, kNumPieces> released_{};  // the stream is done with a piece
  int next_ = 0;
};

}  // namespace krait::kernels
