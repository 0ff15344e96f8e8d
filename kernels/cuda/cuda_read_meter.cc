#include "kernels/cuda/cuda_read_meter.h"

#include <utility>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/read_bandwidth.h"

namespace krait::kernels {
namespace {

class CudaReadMeter final : public ReadMeter {
 public:
  CudaReadMeter(std::unique_ptr<CudaBackend> backend, Tensor memory)
      : backend_(std::move(backend)), memory_(std::move(memory)) {
    backend_->context();
    KRAIT_CUDA_CHECK(cudaEventCreate(&begin_));
    KRAIT_CUDA_CHECK(cudaEventCreate(&end_));
  }
  ~CudaReadMeter() override {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }

  double Pass() override {
    const CudaContext& context = backend_->context();
    KRAIT_CUDA_CHECK(cudaEventRecord(begin_, context.stream));
    ReadAll(context, memory_.ptr<void>(), memory_.num_bytes());
    KRAIT_CUDA_CHECK(cudaEventRecord(end_, context.stream));
    KRAIT_CUDA_CHECK(cudaEventSynchronize(end_));
    float ms = 0;
    KRAIT_CUDA_CHECK(cudaEventElapsedTime(&ms, begin_, end_));
    return static_cast<double>(memory_.num_bytes()) / ms * 1e3;
  }

 private:
  const std::unique_ptr<CudaBackend> backend_;
  const Tensor memory_;
  cudaEvent_t begin_, end_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ReadMeter>> CreateCudaReadMeter(int index, int64_t num_bytes) {
  ASSIGN_OR_RETURN(std::unique_ptr<CudaBackend> backend, CudaBackend::Create(index));
  ASSIGN_OR_RETURN(Tensor memory, backend->Allocate(DType::kU8, {num_bytes}));
  return std::make_unique<CudaReadMeter>(std::move(backend), std::move(memory));
}

}  // namespace krait::kernels
