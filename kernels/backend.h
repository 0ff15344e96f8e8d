#pragma once

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/core/device.h"
#include "kernels/core/tensor.h"
#include "kernels/ops/causal_conv1d.h"
#include "kernels/ops/draw_tokens.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gated_rms_norm.h"
#include "kernels/ops/kv_append.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/linear_bias.h"
#include "kernels/ops/paged_attention.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/rotate_append.h"
#include "kernels/ops/sampling.h"
#include "kernels/ops/selective_scan.h"
#include "kernels/ops/selective_state_update.h"
#include "kernels/ops/silu_mul.h"
#include "kernels/ops/sum_blocks.h"
#include "kernels/ops/sum_peers.h"

namespace krait {

// Ops that were recorded, to run again on the same memory, with whatever it then holds.
class RecordedOps {
 public:
  virtual ~RecordedOps() = default;
  virtual void Run() = 0;  // in the order of the backend's other ops
};

// Results that the host reads later than it asks for them: the device need not be waited for in
// between. One read at a time.
class LateRead {
 public:
  virtual ~LateRead() = default;
  // Of what `from` holds once the ops called before have run; dense, at most the capacity.
  virtual void Start(const TensorView& from) = 0;
  // Waits for what was started, and copies it out.
  virtual void Finish(void* host) = 0;
};

// One device's ops. Ops are ordered as called and return void: wrong shapes are a caller's bug
// (CHECK), a device error is fatal. One thread at a time (the rank's).
//
// Tensors, and the arrays of indices that ops take by pointer (ids, positions, page tables, ...),
// are memory of the device: Allocate and CopyFromHost. A CPU backend takes any host memory. What
// lies on the host whatever the device is said where it is declared (ops/sampling.h: spans, ids of
// a shard, results).
class Backend {
 public:
  virtual ~Backend() = default;
  virtual Device device() const = 0;
  // What Linear reads x as, with weights of this type. Norms, SiluMul, PagedAttention, GatedRmsNorm
  // and SelectiveScan can write it, so that x is rounded once, where it is made.
  virtual DType linear_input(DType weight_dtype) const = 0;

  // Start-up only. RESOURCE_EXHAUSTED names the bytes.
  virtual absl::StatusOr<Tensor> Allocate(DType dtype, Shape shape) = 0;  // zeroed
  // Start-up only. For ranks of this process whose backends are of this device (any, on CPUs); goes
  // when none of their ops uses it any more. RESOURCE_EXHAUSTED names the bytes.
  virtual absl::StatusOr<std::unique_ptr<PeerBoard>> MakePeerBoard(int num_ranks) = 0;
  // In the order in which a step reads the weights. Their memory may be the backend's until it
  // goes.
  virtual absl::StatusOr<std::unique_ptr<LinearWeight>> PrepareLinear(
      const LinearSource& source) = 0;

  virtual void Embedding(const EmbeddingParams& params) = 0;
  virtual void Linear(const LinearParams& params) = 0;
  virtual void AddLinearBias(const LinearBiasParams& params) = 0;
  virtual void SumBlocks(const SumBlocksParams& params) = 0;
  virtual void SumPeers(const SumPeersParams& params) = 0;
  virtual void RmsNorm(const RmsNormParams& params) = 0;
  virtual void Rope(const RopeParams& params) = 0;
  virtual void SiluMul(const SiluMulParams& params) = 0;
  virtual void KvAppend(const KvAppendParams& params) = 0;
  virtual void RotateAppend(const RotateAppendParams& params) = 0;
  virtual void PagedAttention(const PagedAttentionParams& params) = 0;
  virtual void CausalConv1d(const CausalConv1dParams& params) = 0;
  virtual void SelectiveScan(const SelectiveScanParams& params) = 0;
  virtual void SelectiveStateUpdate(const SelectiveStateUpdateParams& params) = 0;
  virtual void GatedRmsNorm(const GatedRmsNormParams& params) = 0;

  virtual void FindRowMax(absl::Span<const LogitsShard> rows, absl::Span<RowMax> out) = 0;
  virtual void BiasLogits(absl::Span<const BiasRow> rows) = 0;
  virtual void Penalize(absl::Span<const PenaltyRow> rows) = 0;
  virtual void ExpMass(absl::Span<const MassRow> rows, absl::Span<uint64_t> out) = 0;
  virtual void TopCandidates(absl::Span<const TopRow> rows,
                             absl::Span<std::vector<Candidate>> out) = 0;
  virtual void GumbelArgmax(absl::Span<const GumbelRow> rows, absl::Span<GumbelBest> out) = 0;
  virtual void DrawTokens(const DrawTokensParams& params) = 0;

  // Calls `ops` and keeps the ops that it calls instead of running them: starting them together is
  // faster than one by one. They must have run before, with the same shapes; `ops` may not
  // allocate, copy, wait, or call an op that has results on the host. Null, and `ops` not called,
  // from a backend that gains nothing by it.
  virtual std::unique_ptr<RecordedOps> Record(absl::FunctionRef<void()> ops) = 0;

  // Host <-> device; on the CPU a plain copy.
  virtual void CopyFromHost(const void* host, const TensorView& to) = 0;
  virtual void CopyToHost(const TensorView& from, void* host) = 0;
  // Start-up only; it goes before the backend does.
  virtual std::unique_ptr<LateRead> MakeLateRead(int64_t capacity_bytes) = 0;
  virtual void Synchronize() = 0;
  // Whether Synchronize would not wait. Not while ops are recorded.
  virtual bool Idle() = 0;
  // The cudaStream_t that ops go to, for libraries that have their own; null of a CPU. Makes the
  // device this thread's.
  virtual void* stream() = 0;
};

// What a device's KV cache keeps keys and values in beside such weights: rounded to bf16 on a GPU,
// where reading them is much of a step.
inline DType KvCacheType(Device device, DType weight_dtype) {
  return device.kind == DeviceKind::kCuda ? weight_dtype : DType::kF32;
}

struct CpuBackendOptions {
  int index = 0;        // of the device name "cpu:<index>"
  int num_threads = 1;  // the calling thread included
  // Instruction set to use, for tests: empty picks the best; "scalar" is the plain twin.
  const char* target = "";
};

std::unique_ptr<Backend> CreateCpuBackend(const CpuBackendOptions& options);

// How many devices of the kind this process sees; 1 for CPUs.
int CountDevices(DeviceKind kind);

// The device's backend; `num_threads` is for a CPU. UNAVAILABLE says why there is no such device,
// FAILED_PRECONDITION that this build has no CUDA.
absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(Device device, int num_threads);

}  // namespace krait
