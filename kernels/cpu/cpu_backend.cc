#include "kernels/cpu/cpu_backend.h"

#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/cpu_peer_board.h"
#include "kernels/cpu/linear.h"

namespace krait::kernels {
namespace {

int64_t RowBytes(const TensorView& view) {
  return TensorView::DenseRowStride(view.shape) * ByteSize(view.dtype);
}

// Ops have run when they return, so what is asked for is there.
class CpuLateRead final : public LateRead {
 public:
  explicit CpuLateRead(int64_t capacity_bytes) : bytes_(capacity_bytes) {}

  void Start(const TensorView& from) override {
    CHECK(from.dense());
    num_bytes_ = from.dim(0) * RowBytes(from);
    CHECK_LE(num_bytes_, static_cast<int64_t>(bytes_.size()));
    std::memcpy(bytes_.data(), from.data, num_bytes_);
  }
  void Finish(void* host) override { std::memcpy(host, bytes_.data(), num_bytes_); }

 private:
  std::vector<char> bytes_;
  int64_t num_bytes_ = 0;
};

}  // namespace

CpuBackend::CpuBackend(const CpuBackendOptions& options)
    : device_{DeviceKind::kCpu, options.index},
      pool_(options.num_threads),
      context_{TargetFromName(options.target), &pool_} {}

absl::StatusOr<Tensor> CpuBackend::Allocate(DType dtype, Shape shape) {
  const int64_t num_bytes = shape.num_elements() * ByteSize(dtype);
  AlignedBuffer buffer = AllocateAligned(num_bytes);
  if (buffer == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", num_bytes, " bytes (",
                                                     shape.ToString(), " ", krait::Name(dtype),
                                                     ") on ", device_.ToString()));
  }
  return Tensor(
      buffer.release(), [](void* memory) { std::free(memory); }, dtype, shape);
}

absl::StatusOr<std::unique_ptr<LinearWeight>> CpuBackend::PrepareLinear(
    const LinearSource& source) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedWeight> weight,
                   PackedWeight::Pack(source, PanelWidth(context_.target), weights_));
  return std::unique_ptr<LinearWeight>(std::move(weight));
}

void CpuBackend::Linear(const LinearParams& params) { RunLinear(context_, params); }

absl::StatusOr<std::unique_ptr<PeerBoard>> CpuBackend::MakePeerBoard(int num_ranks) {
  CHECK(1 <= num_ranks && num_ranks <= PeerBoard::kMaxRanks);
  return std::make_unique<CpuPeerBoard>(num_ranks);
}

void CpuBackend::CopyFromHost(const void* host, const TensorView& to) {
  const int64_t row_bytes = RowBytes(to);
  if (to.dense()) {
    std::memcpy(to.data, host, to.dim(0) * row_bytes);
    return;
  }
  for (int64_t row = 0; row < to.dim(0); ++row) {
    std::memcpy(to.row<char>(0) + row * to.row_stride * ByteSize(to.dtype),
                static_cast<const char*>(host) + row * row_bytes, row_bytes);
  }
}

void CpuBackend::CopyToHost(const TensorView& from, void* host) {
  const int64_t row_bytes = RowBytes(from);
  if (from.dense()) {
    std::memcpy(host, from.data, from.dim(0) * row_bytes);
    return;
  }
  for (int64_t row = 0; row < from.dim(0); ++row) {
    std::memcpy(static_cast<char*>(host) + row * row_bytes,
                from.row<char>(0) + row * from.row_stride * ByteSize(from.dtype), row_bytes);
  }
}

std::unique_ptr<LateRead> CpuBackend::MakeLateRead(int64_t capacity_bytes) {
  return std::make_unique<CpuLateRead>(capacity_bytes);
}

}  // namespace krait::kernels

namespace krait {

std::unique_ptr<Backend> CreateCpuBackend(const CpuBackendOptions& options) {
  return std::make_unique<kernels::CpuBackend>(options);
}

}  // namespace krait
