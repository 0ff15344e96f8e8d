#include "kernels/cuda/cuda_late_read.h"

#include <algorithm>
#include <cstring>

#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {

CudaLateRead::CudaLateRead(cudaStream_t stream, int64_t capacity_bytes)
    : stream_(stream), capacity_bytes_(capacity_bytes) {
  KRAIT_CUDA_CHECK(cudaMallocHost(&pinned_, std::max<int64_t>(1, capacity_bytes)));
  KRAIT_CUDA_CHECK(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming));
}

CudaLateRead::~CudaLateRead() {
  cudaStreamSynchronize(stream_);
  cudaEventDestroy(done_);
  cudaFreeHost(pinned_);
}

void CudaLateRead::Start(const TensorView& from) {
  CHECK(from.dense());
  num_bytes_ = from.shape.num_elements() * ByteSize(from.dtype);
  CHECK_LE(num_bytes_, capacity_bytes_);
  KRAIT_CUDA_CHECK(
      cudaMemcpyAsync(pinned_, from.data, num_bytes_, cudaMemcpyDeviceToHost, stream_));
  KRAIT_CUDA_CHECK(cudaEventRecord(done_, stream_));
}

void CudaLateRead::Finish(void* host) {
  KRAIT_CUDA_CHECK(cudaEventSynchronize(done_));
  std::memcpy(host, pinned_, num_bytes_);
}

}  // namespace krait::kernels
