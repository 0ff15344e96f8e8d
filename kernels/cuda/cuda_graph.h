#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "absl/functional/function_ref.h"
#include "kernels/backend.h"

namespace krait::kernels {

// Launches of one stream, kept as a CUDA graph.
class CudaGraph final : public RecordedOps {
 public:
  // What `launch` puts on `stream`, which outlives the graph.
  CudaGraph(cudaStream_t stream, absl::FunctionRef<void()> launch);
  ~CudaGraph() override;
  CudaGraph(const CudaGraph&) = delete;

  void Run() override;

 private:
  const cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace krait::kernels
