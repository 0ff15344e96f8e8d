#pragma once

// The CPU ops. Formulas and shapes: kernels/ops/<op>.h; each is defined in kernels/cpu/<op>.cc.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/gumbel.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops/causal_conv1d.h"
#include "kernels/ops/draw_tokens.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/gated_rms_norm.h"
#include "kernels/ops/kv_append.h"
#include "kernels/ops/linear_bias.h"
#include "kernels/ops/paged_attention.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/sampling.h"
#include "kernels/ops/selective_scan.h"
#include "kernels/ops/selective_state_update.h"
#include "kernels/ops/silu_mul.h"
#include "kernels/ops/sum_blocks.h"

namespace krait::kernels {

// What an op runs on; borrowed from the backend.
struct CpuContext {
  Target target = Target::kScalar;
  ThreadPool* pool = nullptr;
};

void RunEmbedding(const CpuContext& context, const EmbeddingParams& params);
void RunAddLinearBias(const CpuContext& context, const LinearBiasParams& params);
void RunSumBlocks(const CpuContext& context, const SumBlocksParams& params);
void RunRmsNorm(const CpuContext& context, const RmsNormParams& params);
void RunRope(const CpuContext& context, const RopeParams& params);
void RunSiluMul(const CpuContext& context, const SiluMulParams& params);
void RunKvAppend(const CpuContext& context, const KvAppendParams& params);
void RunPagedAttention(const CpuContext& context, const PagedAttentionParams& params);
void RunCausalConv1d(const CpuContext& context, const CausalConv1dParams& params);
void RunSelectiveScan(const CpuContext& context, const SelectiveScanParams& params);
void RunSelectiveStateUpdate(const CpuContext& context, const SelectiveStateUpdateParams& params);
void RunGatedRmsNorm(const CpuContext& context, const GatedRmsNormParams& params);

void RunFindRowMax(const CpuContext& context, absl::Span<const LogitsShard> rows,
                   absl::Span<RowMax> out);
void RunBiasLogits(const CpuContext& context, absl::Span<const BiasRow> rows);
void RunPenalize(const CpuContext& context, absl::Span<const PenaltyRow> rows);
void RunExpMass(const CpuContext& context, absl::Span<const MassRow> rows,
                absl::Span<uint64_t> out);
void RunTopCandidates(const CpuContext& context, absl::Span<const TopRow> rows,
                      absl::Span<std::vector<Candidate>> out);
void RunGumbelArgmax(const CpuContext& context, absl::Span<const GumbelRow> rows,
                     absl::Span<GumbelBest> out);
void RunDrawTokens(const CpuContext& context, const DrawTokensParams& params);

// The noise of ids [first, first + out.size()), as GumbelArgmax sees it; for tests.
void FillGumbel(Target target, const GumbelKey& key, TokenId first, absl::Span<float> out);
// e^x of each, in place; for tests.
void FillExp(Target target, absl::Span<float> values);

// Calls body(begin, end) over [0, num_rows) in pieces: on the caller alone where the work of
// `num_rows` rows of `row_elements` is too small to pay for waking threads.
void ForRows(const CpuContext& context, int64_t num_rows, int64_t row_elements,
             absl::FunctionRef<void(int64_t begin, int64_t end)> body);

}  // namespace krait::kernels
