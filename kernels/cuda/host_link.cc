#include "kernels/cuda/host_link.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {

HostLink::HostLink(cudaStream_t stream) : stream_(stream) {
  KRAIT_CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&pinned_), kNumPieces * kPieceBytes));
  for (cudaEvent_t& event : released_) {
    KRAIT_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
}

HostLink::~HostLink() {
  for (cudaEvent_t event : released_) cudaEventDestroy(event);
  cudaFreeHost(pinned_);
}

void HostLink::Upload(const void* host, void* device, size_t num_bytes) {
  for (size_t done = 0; done < num_bytes;) {
    const size_t count = std::min(kPieceBytes, num_bytes - done);
    KRAIT_CUDA_CHECK(cudaEventSynchronize(released_[next_]));  // never recorded: returns at once
    std::memcpy(piece(next_), static_cast<const std::byte*>(host) + done, count);
    KRAIT_CUDA_CHECK(cudaMemcpyAsync(static_cast<std::byte*>(device) + done, piece(next_), count,
                                     cudaMemcpyHostToDevice, stream_));
    KRAIT_CUDA_CHECK(cudaEventRecord(released_[next_], stream_));
    next_ = (next_ + 1) % kNumPieces;
    done += count;
  }
}

void HostLink::Download(const void* device, void* host, size_t num_bytes) {
  for (size_t done = 0; done < num_bytes;) {
    const size_t count = std::min(kPieceBytes, num_bytes - done);
    KRAIT_CUDA_CHECK(cudaEventSynchronize(released_[next_]));
    KRAIT_CUDA_CHECK(cudaMemcpyAsync(piece(next_), static_cast<const std::byte*>(device) + done,
                                     count, cudaMemcpyDeviceToHost, stream_));
    KRAIT_CUDA_CHECK(cudaStreamSynchronize(stream_));
    std::memcpy(static_cast<std::byte*>(host) + done, piece(next_), count);
    done += count;
  }
}

}  // namespace krait::kernels
