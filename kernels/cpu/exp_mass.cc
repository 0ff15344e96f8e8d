// sum of round(e^((l - max) / T) 2^40): integers, so that shards and threads add up to the same.

#include <algorithm>
#include <limits>
#include <numeric>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/fill_masses.h"
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

// A product with a power of two and a float's sum with 1/2 are exact in double.
inline uint64_t MassOfExponential(float e) {
  return static_cast<uint64_t>(double{e} * 0x1p40 + 0.5);
}

// Of eight logits; those past the end are -infinity. Most of a row is far below its maximum: false
// if none of them has any mass.
bool ExponentialsOfLanes(F32 logits, float max, float temperature, float* exponentials) {
  const F32 z = Div(Sub(logits, SetF32(max)), SetF32(temperature));
  if (!AnyGreater(z, SetF32(kNoMassBelow))) return false;
  Store(Exp(z), exponentials);
  return true;
}

uint64_t MassOfLanes(F32 logits, float max, float temperature) {
  float exponentials[kLanes];
  if (!ExponentialsOfLanes(logits, max, temperature, exponentials)) return 0;
  uint64_t mass = 0;
  for (float e : exponentials) mass += MassOfExponential(e);
  return mass;
}

void FillLanes(F32 logits, float max, float temperature, uint64_t* masses, int64_t n) {
  float exponentials[kLanes] = {};
  ExponentialsOfLanes(logits, max, temperature, exponentials);
  for (int64_t i = 0; i < n; ++i) masses[i] = MassOfExponential(exponentials[i]);
}

F32 LoadTail(const float* logits, int64_t n) {
  float tail[kLanes];
  std::fill(std::copy(logits, logits + n, tail), tail + kLanes,
            -std::numeric_limits<float>::infinity());
  return Load(tail);
}

uint64_t MassOfSegment(const float* logits, int64_t n, float max, float temperature) {
  uint64_t mass = 0;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) mass += MassOfLanes(Load(logits + i), max, temperature);
  if (i == n) return mass;
  return mass + MassOfLanes(LoadTail(logits + i, n - i), max, temperature);
}

void FillSegment(const float* logits, int64_t n, float max, float temperature, uint64_t* masses) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    FillLanes(Load(logits + i), max, temperature, masses + i, kLanes);
  }
  if (i == n) return;
  FillLanes(LoadTail(logits + i, n - i), max, temperature, masses + i, n - i);
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

void FillMasses(const MassRow& row, absl::Span<uint64_t> out) {
  CHECK_EQ(row.shard.n, static_cast<int64_t>(out.size()));
  static const Target target = TargetFromName("");
  KRAIT_PICK(target, FillSegment)
  (row.shard.logits, row.shard.n, row.max, row.temperature, out.data());
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
