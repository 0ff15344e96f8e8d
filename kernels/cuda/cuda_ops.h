#pragma once

// The CUDA ops. Formulas and shapes: kernels/ops/<op>.h; each is defined in kernels/cuda/<op>.cu.

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/gumbel.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/host_link.h"
#include "kernels/ops/causal_conv1d.h"
#include "kernels/ops/draw_tokens.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gated_rms_norm.h"
#include "kernels/ops/kv_append.h"
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

namespace krait::kernels {

// What an op runs on; borrowed from the backend.
struct CudaContext {
  cudaStream_t stream = nullptr;
  Workspace* workspace = nullptr;
  HostLink* link = nullptr;
};

void RunEmbedding(const CudaContext& context, const EmbeddingParams& params);
void RunAddLinearBias(const CudaContext& context, const LinearBiasParams& params);
void RunSumBlocks(const CudaContext& context, const SumBlocksParams& params);
void RunRmsNorm(const CudaContext& context, const RmsNormParams& params);
void RunRope(const CudaContext& context, const RopeParams& params);
void RunSiluMul(const CudaContext& context, const SiluMulParams& params);
void RunKvAppend(const CudaContext& context, const KvAppendParams& params);
void RunRotateAppend(const CudaContext& context, const RotateAppendParams& params);
void RunPagedAttention(const CudaContext& context, const PagedAttentionParams& params);
void RunCausalConv1d(const CudaContext& context, const CausalConv1dParams& params);
void RunSelectiveScan(const CudaContext& context, const SelectiveScanParams& params);
void RunSelectiveStateUpdate(const CudaContext& context, const SelectiveStateUpdateParams& params);
void RunGatedRmsNorm(const CudaContext& context, const GatedRmsNormParams& params);

void RunFindRowMax(const CudaContext& context, absl::Span<const LogitsShard> rows,
                   absl::Span<RowMax> out);
void RunBiasLogits(const CudaContext& context, absl::Span<const BiasRow> rows);
void RunPenalize(const CudaContext& context, absl::Span<const PenaltyRow> rows);
void RunExpMass(const CudaContext& context, absl::Span<const MassRow> rows,
                absl::Span<uint64_t> out);
void RunTopCandidates(const CudaContext& context, absl::Span<const TopRow> rows,
                      absl::Span<std::vector<Candidate>> out);
void RunGumbelArgmax(const CudaContext& context, absl::Span<const GumbelRow> rows,
                     absl::Span<GumbelBest> out);
void RunDrawTokens(const CudaContext& context, const DrawTokensParams& params);

// The noise of ids [first, first + out.size()), as GumbelArgmax sees it; for tests.
void FillGumbel(const CudaContext& context, const GumbelKey& key, TokenId first,
                absl::Span<float> out);

}  // namespace krait::kernels
