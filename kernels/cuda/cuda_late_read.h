#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/backend.h"

namespace krait::kernels {

// A copy into pinned memory on the ops' stream, and an event behind it.
class CudaLateRead final : public LateRead {
 public:
  CudaLateRead(cudaStream_t stream, int64_t capacity_bytes);
  ~CudaLateRead() override;
  CudaLateRead(const CudaLateRead&) = delete;

  void Start(const TensorView& from) override;
  void Finish(void* host) override;

 private:
  const cudaStream_t stream_;
  const int64_t capacity_bytes_;
  void* pinned_ = nullptr;  // [capacity_bytes]
  int64_t num_bytes_ = 0;   // of the read that was started
  cudaEvent_t done_ = nullptr;
};

}  // namespace krait::kernels
