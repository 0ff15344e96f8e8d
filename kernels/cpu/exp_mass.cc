// sum of round(e^((l - max) / T) 2^40): integers, so that shards and threads add up to the same.

#include <algorithm>
#include <limits>
#include <numeric>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_segments.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/exp_mass.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

// e^z 2^40 is below one half from here on down.
inline constexpr float kNoMassBelow = -28.5f;

// Of eight logits; those past the end are -infinity. Most of a row is far below its maximum.
uint64_t MassOfLanes(F32 logits, float max, float temperature) {
  const F32 z = Div(Sub(logits, SetF32(max)), SetF32(temperature));
  if (!AnyGreater(z, SetF32(kNoMassBelow))) return 0;
  float exponentials[kLanes];
  Store(Exp(z), exponentials);
  uint64_t mass = 0;
  // A product with a power of two and a float's sum with 1/2 are exact in double.
  for (float e : exponentials) mass += static_cast<uint64_t>(double{e} * 0x1p40 + 0.5);
  return mass;
}

uint64_t MassOfSegment(const float* logits, int64_t n, float max, float temperature) {
  uint64_t mass = 0;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) mass += MassOfLanes(Load(logits + i), max, temperature);
  if (i == n) return mass;
  float tail[kLanes];
  std::fill(std::copy(logits + i, logits + n, tail), tail + kLanes,
            -std::numeric_limits<float>::infinity());
  return mass + MassOfLanes(Load(tail), max, temperature);
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunExpMass(const CpuContext& context, absl::Span<const MassRow> rows,
                absl::Span<uint64_t> out) {
  CHECK_EQ(rows.size(), out.size());
  const std::vector<RowSegment> segments = CutRows(rows);
  std::vector<uint64_t> masses(segments.size());
  const auto mass_of = KRAIT_PICK(context.target, MassOfSegment);
  context.pool->ForEach(segments.size(), [&](int64_t i) {
    const RowSegment& segment = segments[i];
    const MassRow& row = rows[segment.row];
    masses[i] = mass_of(row.shard.logits + segment.begin, segment.end - segment.begin, row.max,
                        row.temperature);
  });
  std::fill(out.begin(), out.end(), 0);
  for (size_t i = 0; i < segments.size(); ++i) out[segments[i].row] += masses[i];
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
