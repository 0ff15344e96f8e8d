// The formula and its order: ops/selective_state_update.h. A task is one head of one sequence.

#include <algorithm>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/head_run.h"

namespace krait::kernels {
namespace {

void CheckShapes(const SelectiveStateUpdateParams& params, const StateLayout& layout) {
  const int64_t heads = layout.num_heads, num_tokens = params.xbc.dim(0);
  CHECK(layout.head_dim % 8 == 0 && layout.head_dim <= kMaxStateHeadDim) << layout.head_dim;
  CHECK(layout.state_dim % 8 == 0 && layout.state_dim > 0) << layout.state_dim;
  CHECK_EQ(params.ring.dim(2), layout.dt_offset() + heads);
  CHECK_EQ(heads % layout.num_groups, 0);
  CHECK_EQ(params.xbc.dim(1), layout.dt_offset() + heads * layout.state_dim);
  CHECK(params.dt.shape == (Shape{num_tokens, heads})) << params.dt.shape.ToString();
  CHECK(params.y.shape == (Shape{num_tokens, heads * layout.head_dim}));
  for (const TensorView& each : {params.dt_bias, params.a, params.d}) CHECK_EQ(each.dim(0), heads);
  CHECK(params.fold_interval >= 1 && params.fold_interval <= kMaxFoldInterval);
  CHECK_EQ(params.ring.dim(0), params.state.dim(0));
  CheckRecurrentBatch(params.batch, num_tokens, params.state.dim(0));
}

// After every head has read what is there.
void WriteInputs(const SelectiveStateUpdateParams& params, const StateLayout& layout,
                 const RecurrentSequence& sequence) {
  const RingRows ring(params.ring, sequence.slot);
  const int64_t first = sequence.FirstUnfolded(params.fold_interval);
  const int64_t oldest = sequence.final_end / params.fold_interval * params.fold_interval;
  CHECK_LE(sequence.end() - oldest, ring.length()) << "too many drafts for the ring";
  for (int64_t i = first; i < sequence.num_tokens; ++i) {
    std::copy_n(params.xbc.row<float>(sequence.first_row + i), layout.dt_offset(),
                ring[sequence.position(i)]);
  }
}

// A state that is folded several times in one call stays in the cache in between.
void CountTraffic(const SelectiveStateUpdateParams& params, const StateLayout& layout,
                  const RecurrentSequence& sequence) {
  const int64_t interval = params.fold_interval;
  const int64_t state_bytes = layout.num_heads * layout.state_size() * 4;
  const int64_t entry_bytes = params.ring.dim(2) * 4;
  const int64_t before = sequence.state_position / interval;
  const int64_t folds = sequence.final_end / interval - before;
  StateTraffic& traffic = *params.traffic;
  if (before > 0) traffic.state_read += state_bytes;
  if (folds > 0) traffic.state_written += state_bytes;
  traffic.ring_read += (sequence.first_position - before * interval) * entry_bytes;
  traffic.ring_written +=
      (sequence.num_tokens - sequence.FirstUnfolded(params.fold_interval)) * entry_bytes;
}

}  // namespace

void RunSelectiveStateUpdate(const CpuContext& context, const SelectiveStateUpdateParams& params) {
  const StateLayout layout(params);
  CheckShapes(params, layout);
  const HeadFunctions functions = HeadFunctionsFor(context.target);
  RunParts(
      context, params.batch, layout.num_heads,
      [&](const RecurrentSequence& sequence, int64_t head) {
        HeadRun(params, layout, functions, sequence, head).Run();
      },
      [&](const RecurrentSequence& sequence) {
        WriteInputs(params, layout, sequence);
        if (params.traffic != nullptr) CountTraffic(params, layout, sequence);
      });
}

}  // namespace krait::kernels
