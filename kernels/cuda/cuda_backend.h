#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/sum_peers.h"

namespace krait::kernels {

// Ops on one CUDA device, on one stream. A row's results depend on its operands only: neither on
// the number of rows, nor on neighbours, nor on how tokens are cut into calls.
class CudaBackend final : public Backend {
 public:
  // UNAVAILABLE says why there is no such device.
  static absl::StatusOr<std::unique_ptr<CudaBackend>> Create(int index);
  ~CudaBackend() override;

  Device device() const override { return {DeviceKind::kCuda, index_}; }
  DType linear_input(DType weight_dtype) const override { return weight_dtype; }

  absl::StatusOr<Tensor> Allocate(DType dtype, Shape shape) override;
  absl::StatusOr<std::unique_ptr<PeerBoard>> MakePeerBoard(int num_ranks) override;
  absl::StatusOr<std::unique_ptr<LinearWeight>> PrepareLinear(const LinearSource& source) override;

  void Embedding(const EmbeddingParams& params) override { RunEmbedding(context(), params); }
  void Linear(const LinearParams& params) override;
  void AddLinearBias(const LinearBiasParams& params) override {
    RunAddLinearBias(context(), params);
  }
  void SumBlocks(const SumBlocksParams& params) override { RunSumBlocks(context(), params); }
  void SumPeers(const SumPeersParams& params) override { RunSumPeers(context(), params); }
  void RmsNorm(const RmsNormParams& params) override { RunRmsNorm(context(), params); }
  void Rope(const RopeParams& params) override { RunRope(context(), params); }
  void SiluMul(const SiluMulParams& params) override { RunSiluMul(context(), params); }
  void KvAppend(const KvAppendParams& params) override { RunKvAppend(context(), params); }
  void RotateAppend(const RotateAppendParams& params) override {
    RunRotateAppend(context(), params);
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    RunPagedAttention(context(), params);
  }
  void CausalConv1d(const CausalConv1dParams& params) override {
    RunCausalConv1d(context(), params);
  }
  void SelectiveScan(const SelectiveScanParams& params) override {
    RunSelectiveScan(context(), params);
  }
  void SelectiveStateUpdate(const SelectiveStateUpdateParams& params) override {
    RunSelectiveStateUpdate(context(), params);
  }
  void GatedRmsNorm(const GatedRmsNormParams& params) override {
    RunGatedRmsNorm(context(), params);
  }

  void FindRowMax(absl::Span<const LogitsShard> rows, absl::Span<RowMax> out) override {
    RunFindRowMax(context(), rows, out);
  }
  void BiasLogits(absl::Span<const BiasRow> rows) override { RunBiasLogits(context(), rows); }
  void Penalize(absl::Span<const PenaltyRow> rows) override { RunPenalize(context(), rows); }
  void ExpMass(absl::Span<const MassRow> rows, absl::Span<uint64_t> out) override {
    RunExpMass(context(), rows, out);
  }
  void TopCandidates(absl::Span<const TopRow> rows,
                     absl::Span<std::vector<Candidate>> out) override {
    RunTopCandidates(context(), rows, out);
  }
  void GumbelArgmax(absl::Span<const GumbelRow> rows, absl::Span<GumbelBest> out) override {
    RunGumbelArgmax(context(), rows, out);
  }
  void DrawTokens(const DrawTokensParams& params) override { RunDrawTokens(context(), params); }

  std::unique_ptr<RecordedOps> Record(absl::FunctionRef<void()> ops) override;
  void CopyFromHost(const void* host, const TensorView& to) override;
  void CopyToHost(const TensorView& from, void* host) override;
  std::unique_ptr<LateRead> MakeLateRead(int64_t capacity_bytes) override;
  void Synchronize() override;
  bool Idle() override;
  void* stream() override { return context().stream; }

  // What ops run on; makes the device this thread's.
  const CudaContext& context();

 private:
  CudaBackend(int index, cudaStream_t stream);

  const int index_;
  const cudaStream_t stream_;
  Workspace workspace_;
  HostLink link_;
  const CudaContext context_;
};

}  // namespace krait::kernels
