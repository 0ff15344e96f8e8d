#include "kernels/cuda/cuda_graph.h"

#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {

CudaGraph::CudaGraph(cudaStream_t stream, absl::FunctionRef<void()> launch) : stream_(stream) {
  cudaGraph_t graph = nullptr;
  KRAIT_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  launch();
  KRAIT_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  KRAIT_CUDA_CHECK(cudaGraphInstantiate(&graph_, graph, 0));
  KRAIT_CUDA_CHECK(cudaGraphDestroy(graph));
}

CudaGraph::~CudaGraph() {
  cudaStreamSynchronize(stream_);
  cudaGraphExecDestroy(graph_);
}

void CudaGraph::Run() { KRAIT_CUDA_CHECK(cudaGraphLaunch(graph_, stream_)); }

}  // namespace krait::kernels
