// The largest logit of a row and whether all are finite. The maximum is the same in any order.

#include <algorithm>
#include <limits>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_segments.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/find_row_max.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// NaN never is the maximum; x - x is 0 for finite x and NaN otherwise, and a NaN stays in the sum.
void MaxOfSegment(const float* logits, int64_t n, RowMax* out) {
  const float lowest = -std::numeric_limits<float>::infinity();
  F32 max = SetF32(lowest), differences = SetF32(0.0f);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 x = Load(logits + i);
    max = Select(Greater(x, max), x, max);
    differences = Add(differences, Sub(x, x));
  }
  float lanes[kLanes];
  Store(max, lanes);
  float row_max = *std::max_element(lanes, lanes + kLanes);
  float difference = SumLanes(differences);
  for (; i < n; ++i) {
    row_max = logits[i] > row_max ? logits[i] : row_max;
    difference += logits[i] - logits[i];
  }
  out->max = row_max;
  out->finite = difference == 0.0f;
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

struct ShardRow {
  const LogitsShard& shard;
};

std::vector<ShardRow> Wrap(absl::Span<const LogitsShard> rows) {
  std::vector<ShardRow> wrapped;
  for (const LogitsShard& shard : rows) wrapped.push_back({shard});
  return wrapped;
}

}  // namespace

void RunFindRowMax(const CpuContext& context, absl::Span<const LogitsShard> rows,
                   absl::Span<RowMax> out) {
  CHECK_EQ(rows.size(), out.size());
  const std::vector<RowSegment> segments = CutRows(Wrap(rows));
  std::vector<RowMax> maxima(segments.size());
  const auto max_of = KRAIT_PICK(context.target, MaxOfSegment);
  context.pool->ForEach(segments.size(), [&](int64_t i) {
    const RowSegment& segment = segments[i];
    max_of(rows[segment.row].logits + segment.begin, segment.end - segment.begin, &maxima[i]);
  });
  std::fill(out.begin(), out.end(), RowMax{-std::numeric_limits<float>::infinity(), true});
  for (size_t i = 0; i < segments.size(); ++i) {
    RowMax& row = out[segments[i].row];
    row.max = std::max(row.max, maxima[i].max);
    row.finite &= maxima[i].finite;
  }
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
