#include "kernels/cuda/cuda_backend.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cuda/create_cuda_backend.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_graph.h"
#include "kernels/cuda/cuda_late_read.h"
#include "kernels/cuda/cuda_peer_board.h"
#include "kernels/cuda/cuda_weight.h"

namespace krait::kernels {
namespace {

// Copies beyond this go straight from or to the caller's memory, which the driver does well.
constexpr int64_t kLinkBytes = int64_t{1} << 20;

int64_t RowBytes(const TensorView& view) {
  return TensorView::DenseRowStride(view.shape) * ByteSize(view.dtype);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(int index) {
  int num_devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&num_devices); error != cudaSuccess) {
    cudaGetLastError();
    return absl::UnavailableError(absl::StrCat("no CUDA device: ", cudaGetErrorString(error)));
  }
  if (index < 0 || index >= num_devices) {
    return absl::UnavailableError(
        absl::StrCat("no device cuda:", index, ": this machine has ", num_devices));
  }
  cudaStream_t stream = nullptr;
  if (cudaError_t error = cudaSetDevice(index); error != cudaSuccess) {
    return absl::UnavailableError(absl::StrCat("cuda:", index, ": ", cudaGetErrorString(error)));
  }
  if (cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
      error != cudaSuccess) {
    return absl::UnavailableError(absl::StrCat("cuda:", index, ": ", cudaGetErrorString(error)));
  }
  return std::unique_ptr<CudaBackend>(new CudaBackend(index, stream));
}

CudaBackend::CudaBackend(int index, cudaStream_t stream)
    : index_(index),
      stream_(stream),
      workspace_(index),
      link_(stream),
      context_{.stream = stream, .workspace = &workspace_, .link = &link_} {}

CudaBackend::~CudaBackend() {
  cudaSetDevice(index_);
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

const CudaContext& CudaBackend::context() {
  KRAIT_CUDA_CHECK(cudaSetDevice(index_));
  return context_;
}

absl::StatusOr<Tensor> CudaBackend::Allocate(DType dtype, Shape shape) {
  const CudaContext& on = context();
  ASSIGN_OR_RETURN(Tensor tensor, AllocateDevice(index_, dtype, shape));
  KRAIT_CUDA_CHECK(cudaMemsetAsync(tensor.ptr<void>(), 0, tensor.num_bytes(), on.stream));
  return tensor;
}

absl::StatusOr<std::unique_ptr<LinearWeight>> CudaBackend::PrepareLinear(
    const LinearSource& source) {
  ASSIGN_OR_RETURN(std::unique_ptr<CudaWeight> weight, CudaWeight::Pack(source, index_, context()));
  return std::unique_ptr<LinearWeight>(std::move(weight));
}

absl::StatusOr<std::unique_ptr<PeerBoard>> CudaBackend::MakePeerBoard(int num_ranks) {
  context();  // makes the device this thread's
  ASSIGN_OR_RETURN(std::unique_ptr<PeerBoard> board, CudaPeerBoard::Create(index_, num_ranks));
  return board;
}

void CudaBackend::Linear(const LinearParams& params) { RunLinear(context(), params); }

std::unique_ptr<RecordedOps> CudaBackend::Record(absl::FunctionRef<void()> ops) {
  return std::make_unique<CudaGraph>(context().stream, ops);
}

void CudaBackend::CopyFromHost(const void* host, const TensorView& to) {
  const CudaContext& on = context();
  const int64_t row_bytes = RowBytes(to), num_bytes = to.dim(0) * row_bytes;
  if (num_bytes == 0) return;
  if (to.dense() && num_bytes <= kLinkBytes) {
    on.link->Upload(host, to.data, num_bytes);
    return;
  }
  KRAIT_CUDA_CHECK(cudaMemcpy2DAsync(to.data, to.row_stride * ByteSize(to.dtype), host, row_bytes,
                                     row_bytes, to.dim(0), cudaMemcpyHostToDevice, on.stream));
  Synchronize();  // `host` is the caller's again
}

void CudaBackend::CopyToHost(const TensorView& from, void* host) {
  const CudaContext& on = context();
  const int64_t row_bytes = RowBytes(from), num_bytes = from.dim(0) * row_bytes;
  if (num_bytes == 0) return;
  if (from.dense() && num_bytes <= kLinkBytes) {
    on.link->Download(from.data, host, num_bytes);
    return;
  }
  KRAIT_CUDA_CHECK(cudaMemcpy2DAsync(host, row_bytes, from.data,
                                     from.row_stride * ByteSize(from.dtype), row_bytes, from.dim(0),
                                     cudaMemcpyDeviceToHost, on.stream));
  Synchronize();
}

std::unique_ptr<LateRead> CudaBackend::MakeLateRead(int64_t capacity_bytes) {
  return std::make_unique<CudaLateRead>(context().stream, capacity_bytes);
}

void CudaBackend::Synchronize() { KRAIT_CUDA_CHECK(cudaStreamSynchronize(context().stream)); }

bool CudaBackend::Idle() {
  const cudaError_t error = cudaStreamQuery(context().stream);
  if (error == cudaErrorNotReady) return false;
  KRAIT_CUDA_CHECK(error);
  return true;
}

}  // namespace krait::kernels

namespace krait {

int CountCudaDevices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(int index) {
  ASSIGN_OR_RETURN(std::unique_ptr<kernels::CudaBackend> backend,
                   kernels::CudaBackend::Create(index));
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace krait
