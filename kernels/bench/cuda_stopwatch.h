#pragma once

// What CUDA benchmarks share.

#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {

// Times work of one stream on the device.
class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
    KRAIT_CUDA_CHECK(cudaEventCreate(&begin_));
    KRAIT_CUDA_CHECK(cudaEventCreate(&end_));
  }
  Stopwatch(const Stopwatch&) = delete;
  ~Stopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }

  // `work` puts something on the stream.
  template <typename Work>
  double Seconds(const Work& work) {
    KRAIT_CUDA_CHECK(cudaEventRecord(begin_, stream_));
    work();
    KRAIT_CUDA_CHECK(cudaEventRecord(end_, stream_));
    KRAIT_CUDA_CHECK(cudaEventSynchronize(end_));
    float ms = 0;
    KRAIT_CUDA_CHECK(cudaEventElapsedTime(&ms, begin_, end_));
    return ms / 1e3;
  }

 private:
  const cudaStream_t stream_;
  cudaEvent_t begin_, end_;
};

inline double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace krait::kernels
