#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/sum_peers.h"
#include "kernels/cpu/weight_arena.h"

namespace krait::kernels {

// The CPU product and the reference for other backends: f32 arithmetic in fixed orders, the same
// bits on every instruction set and with any number of threads. Tests derive stand-ins for other
// devices from it.
class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const CpuBackendOptions& options);

  Device device() const override { return device_; }
  DType linear_input(DType) const override { return DType::kF32; }

  absl::StatusOr<Tensor> Allocate(DType dtype, Shape shape) override;
  absl::StatusOr<std::unique_ptr<PeerBoard>> MakePeerBoard(int num_ranks) override;
  absl::StatusOr<std::unique_ptr<LinearWeight>> PrepareLinear(const LinearSource& source) override;

  void Embedding(const EmbeddingParams& params) override { RunEmbedding(context_, params); }
  void Linear(const LinearParams& params) override;
  void AddLinearBias(const LinearBiasParams& params) override {
    RunAddLinearBias(context_, params);
  }
  void SumBlocks(const SumBlocksParams& params) override { RunSumBlocks(context_, params); }
  void SumPeers(const SumPeersParams& params) override { RunSumPeers(context_, params); }
  void RmsNorm(const RmsNormParams& params) override { RunRmsNorm(context_, params); }
  void Rope(const RopeParams& params) override { RunRope(context_, params); }
  void SiluMul(const SiluMulParams& params) override { RunSiluMul(context_, params); }
  void KvAppend(const KvAppendParams& params) override { RunKvAppend(context_, params); }
  void RotateAppend(const RotateAppendParams& params) override {
    for (const TensorView& x : {params.q, params.k}) {
      Rope({.x = x, .positions = params.positions, .cos = params.cos, .sin = params.sin});
    }
    KvAppend({.k = params.k,
              .v = params.v,
              .slots = params.slots,
              .k_cache = params.k_cache,
              .v_cache = params.v_cache});
  }
  void PagedAttention(const PagedAttentionParams& params) override {
    RunPagedAttention(context_, params);
  }
  void CausalConv1d(const CausalConv1dParams& params) override {
    RunCausalConv1d(context_, params);
  }
  void SelectiveScan(const SelectiveScanParams& params) override {
    RunSelectiveScan(context_, params);
  }
  void SelectiveStateUpdate(const SelectiveStateUpdateParams& params) override {
    RunSelectiveStateUpdate(context_, params);
  }
  void GatedRmsNorm(const GatedRmsNormParams& params) override {
    RunGatedRmsNorm(context_, params);
  }

  void FindRowMax(absl::Span<const LogitsShard> rows, absl::Span<RowMax> out) override {
    RunFindRowMax(context_, rows, out);
  }
  void BiasLogits(absl::Span<const BiasRow> rows) override { RunBiasLogits(context_, rows); }
  void Penalize(absl::Span<const PenaltyRow> rows) override { RunPenalize(context_, rows); }
  void ExpMass(absl::Span<const MassRow> rows, absl::Span<uint64_t> out) override {
    RunExpMass(context_, rows, out);
  }
  void TopCandidates(absl::Span<const TopRow> rows,
                     absl::Span<std::vector<Candidate>> out) override {
    RunTopCandidates(context_, rows, out);
  }
  void GumbelArgmax(absl::Span<const GumbelRow> rows, absl::Span<GumbelBest> out) override {
    RunGumbelArgmax(context_, rows, out);
  }
  void DrawTokens(const DrawTokensParams& params) override { RunDrawTokens(context_, params); }

  std::unique_ptr<RecordedOps> Record(absl::FunctionRef<void()>) override { return nullptr; }
  void CopyFromHost(const void* host, const TensorView& to) override;
  void CopyToHost(const TensorView& from, void* host) override;
  std::unique_ptr<LateRead> MakeLateRead(int64_t capacity_bytes) override;
  void Synchronize() override {}  // ops have ended when they return
  bool Idle() override { return true; }
  void* stream() override { return nullptr; }

 private:
  const Device device_;
  ThreadPool pool_;
  const CpuContext context_;
  WeightArena weights_;
};

}  // namespace krait::kernels
