// The formula and its order: ops/selective_scan.h. A task is one group of N channels of one
// sequence.

#include <algorithm>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/group_run.h"

namespace krait::kernels {
namespace {

void CheckShapes(const SelectiveScanParams& params, const ScanLayout& layout) {
  const int64_t num_tokens = params.x.dim(0), taps = params.conv_weight.dim(0);
  CHECK(layout.group_size % 8 == 0 && layout.group_size > 0) << layout.group_size;
  CHECK_EQ(layout.inputs % layout.group_size, 0);
  CHECK_EQ(layout.channels, layout.inputs * layout.repeat);
  CHECK(params.state.shape ==
        (Shape{params.state.dim(0), layout.num_groups, layout.group_size, layout.group_size}));
  CHECK(params.a.shape == (Shape{layout.num_groups, layout.group_size, layout.group_size}));
  CHECK(params.b.shape == params.x.shape);
  for (const TensorView& each : {params.c, params.dt, params.z, params.y}) {
    CHECK(each.shape == (Shape{num_tokens, layout.channels})) << each.shape.ToString();
  }
  for (const TensorView& each : {params.conv_bias, params.dt_bias, params.d}) {
    CHECK_EQ(each.dim(0), layout.channels);
  }
  CHECK(taps >= 1 && taps <= kMaxConvTaps && params.conv_weight.dim(1) == layout.channels) << taps;
  CHECK_EQ(params.ring.dim(2), layout.inputs + layout.channels);
  CHECK_EQ(params.conv_ring.dim(2), layout.inputs);
  CheckRecurrentBatch(params.batch, num_tokens, params.state.dim(0));
}

// After every group has read what is there: drafts' B and dt, and x as the next convolutions need
// it.
void WriteRings(const SelectiveScanParams& params, const ScanLayout& layout,
                const RecurrentSequence& sequence) {
  const RingRows ring(params.ring, sequence.slot), conv_ring(params.conv_ring, sequence.slot);
  CHECK_LE(sequence.end() - sequence.final_end, ring.length()) << "too many drafts for the ring";
  for (int64_t i = sequence.num_final(); i < sequence.num_tokens; ++i) {
    float* entry = ring[sequence.position(i)];
    std::copy_n(params.b.row<float>(sequence.first_row + i), layout.inputs, entry);
    std::copy_n(params.dt.row<float>(sequence.first_row + i), layout.channels,
                entry + layout.inputs);
  }
  for (int64_t i = FirstKept(sequence, conv_ring); i < sequence.num_tokens; ++i) {
    std::copy_n(params.x.row<float>(sequence.first_row + i), layout.inputs,
                conv_ring[sequence.position(i)]);
  }
}

void CountTraffic(const SelectiveScanParams& params, const ScanLayout& layout,
                  const RecurrentSequence& sequence) {
  const int64_t state_bytes = layout.num_groups * layout.state_size() * 4;
  const int64_t entry_bytes = params.ring.dim(2) * 4, x_bytes = layout.inputs * 4;
  const int64_t taps = params.conv_weight.dim(0);
  const int64_t replayed = sequence.first_position - sequence.state_position;
  StateTraffic& traffic = *params.traffic;
  if (sequence.state_position > 0) traffic.state_read += state_bytes;
  traffic.state_written += state_bytes;
  traffic.ring_read +=
      replayed * entry_bytes + std::min(replayed + taps - 1, sequence.first_position) * x_bytes;
  traffic.ring_written += (sequence.num_tokens - sequence.num_final()) * entry_bytes +
                          std::min(sequence.num_tokens, params.conv_ring.dim(1)) * x_bytes;
}

}  // namespace

void RunSelectiveScan(const CpuContext& context, const SelectiveScanParams& params) {
  const ScanLayout layout(params);
  CheckShapes(params, layout);
  const AdvanceFunction advance = AdvanceFunctionFor(context.target);
  RunParts(
      context, params.batch, layout.num_groups,
      [&](const RecurrentSequence& sequence, int64_t group) {
        GroupRun(params, layout, advance, sequence, group).Run();
      },
      [&](const RecurrentSequence& sequence) {
        WriteRings(params, layout, sequence);
        if (params.traffic != nullptr) CountTraffic(params, layout, sequence);
      });
}

}  // namespace krait::kernels
