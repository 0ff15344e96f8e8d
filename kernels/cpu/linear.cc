// y = x W^T, weights packed in panels (packed_weight.h). Lanes run along outputs, so that every
// output is one chain of fused multiply-adds over k whatever else is computed beside it.
//
// A tile is R rows by P panels, its 2 R P sums in registers: enough chains to hide the latency of a
// multiply-add, few enough to leave registers for weights. One tile reads its weights once for all
// its rows; bf16 is widened in registers, once for all of them.

// AVX-512 too, unlike target.h: registers of 16 outputs.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#endif

#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cmath>

#include "common/logging.h"
#include "kernels/core/bf16.h"
#include "kernels/cpu/linear_job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_STATIC_TARGET

// The plain twin.
inline constexpr int kWidth = 16;

// The weights of k of a panel, widened.
void WidenWeights(const LinearJob& job, int64_t panel, int64_t k, float* out) {
  constexpr int kHalf = kWidth / 2;
  const std::byte* base = job.weights + panel * job.panel_bytes;
  if (job.dtype == DType::kF32) {
    std::copy_n(reinterpret_cast<const float*>(base) + k * kWidth, kWidth, out);
    return;
  }
  const Bf16* pairs = reinterpret_cast<const Bf16*>(base) + k * kWidth;
  for (int j = 0; j < kWidth; ++j) out[j] = FromBf16(pairs[2 * (j % kHalf) + j / kHalf]);
}

void PlainTile(const LinearJob& job, int64_t panel, int64_t row) {
  const float* x = job.x + row * job.x_stride;
  float total[kWidth];
  for (int64_t block = 0; block < job.k_blocks; ++block) {
    float sums[kWidth] = {};
    for (int64_t k = block * job.block_size; k < (block + 1) * job.block_size; ++k) {
      float weights[kWidth];
      WidenWeights(job, panel, k, weights);
      for (int j = 0; j < kWidth; ++j) sums[j] = std::fma(x[k], weights[j], sums[j]);
    }
    if (job.partials()) StorePartial(job, block, row, panel * kWidth, kWidth, sums);
    for (int j = 0; j < kWidth; ++j) total[j] = block == 0 ? sums[j] : total[j] + sums[j];
  }
  if (!job.partials()) StoreSum(job, row, panel * kWidth, kWidth, total);
}

void LinearPanels(const LinearJob& job, int64_t panel_begin, int64_t panel_end) {
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    for (int64_t row = 0; row < job.num_rows; ++row) PlainTile(job, panel, row);
  }
}

#else  // registers

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;
using Vec = hn::Vec<Tag>;
inline constexpr int kHalf = static_cast<int>(hn::MaxLanes(Tag()));
inline constexpr int kWidth = 2 * kHalf;
inline constexpr bool kWideRegisters = HWY_TARGET == HWY_AVX3;
inline constexpr int kMaxTileRows = kWideRegisters ? 8 : 6;

// Panels a tile of `rows` covers: 2 rows panels sums must fit beside weights and a broadcast. With
// more sums than the multiply-adds' latency needs, further panels only scatter what is read.
constexpr int TilePanels(int rows) {
  if (kWideRegisters) return rows <= 2 ? 2 : 1;
  return rows == 1 ? 4 : rows == 2 ? 2 : 1;
}

// Whether a tile asks for its weights ahead of their use: where several rows' multiply-adds fill
// the window in which the processor looks for loads, memory would idle. With few rows its own
// look-ahead suffices, and more requests only get in the way.
constexpr bool ReadsAhead(int rows) { return rows > (kWideRegisters ? 2 : 1); }
// How far, along a panel and into the next one.
inline constexpr int64_t kAheadBytes = 4096;
inline constexpr int64_t kLine = 64;

struct Pair {
  Vec low, high;  // outputs [0, kHalf) and [kHalf, kWidth) of a panel
};

struct Bf16Weights {
  static constexpr int64_t kBytes = 2 * kWidth;  // of one k

  static HWY_INLINE Pair Load(const std::byte* panel, int64_t k) {
    const hn::RebindToUnsigned<Tag> bits;
    const auto pairs = hn::Load(bits, reinterpret_cast<const uint32_t*>(panel) + k * kHalf);
    return {hn::BitCast(Tag(), hn::ShiftLeft<16>(pairs)),
            hn::BitCast(Tag(), hn::And(pairs, hn::Set(bits, 0xffff0000u)))};
  }
};

struct F32Weights {
  static constexpr int64_t kBytes = 4 * kWidth;

  static HWY_INLINE Pair Load(const std::byte* panel, int64_t k) {
    const float* at = reinterpret_cast<const float*>(panel) + k * kWidth;
    return {hn::Load(Tag(), at), hn::Load(Tag(), at + kHalf)};
  }
};

template <int kRows, int kPanels>
struct Sums {
  Pair at[kRows][kPanels];
};

template <typename Weights>
HWY_INLINE void ReadAhead(const std::byte* panel, int64_t k) {
  const std::byte* at = panel + k * Weights::kBytes + kAheadBytes;
#pragma GCC unroll 2
  for (int64_t byte = 0; byte < Weights::kBytes; byte += kLine) __builtin_prefetch(at + byte, 0, 3);
}

// The chains of one block, k in [k_begin, k_end), into `out`. Every loop over the sums is unrolled:
// one dynamic index, and the compiler would keep them in memory instead of registers.
template <typename Weights, int kRows, int kPanels>
HWY_INLINE void SumBlock(const LinearJob& job, const std::byte* panels, const float* x,
                         int64_t k_begin, int64_t k_end, float (*out)[kPanels][kWidth]) {
  const int64_t panel_bytes = job.panel_bytes, x_stride = job.x_stride;
  Sums<kRows, kPanels> sums;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) sums.at[r][p] = {hn::Zero(Tag()), hn::Zero(Tag())};
  }
  for (int64_t k = k_begin; k < k_end; ++k) {
    Pair weights[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      const std::byte* panel = panels + p * panel_bytes;
      if (ReadsAhead(kRows)) ReadAhead<Weights>(panel, k);
      weights[p] = Weights::Load(panel, k);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec xk = hn::Set(Tag(), x[r * x_stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        sums.at[r][p].low = hn::MulAdd(xk, weights[p].low, sums.at[r][p].low);
        sums.at[r][p].high = hn::MulAdd(xk, weights[p].high, sums.at[r][p].high);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      hn::StoreU(sums.at[r][p].low, Tag(), out[r][p]);
      hn::StoreU(sums.at[r][p].high, Tag(), out[r][p] + kHalf);
    }
  }
}

// total += sums, [count].
HWY_INLINE void AddSums(const float* sums, int64_t count, float* total) {
  for (int64_t i = 0; i < count; i += kHalf) {
    hn::StoreU(hn::Add(hn::LoadU(Tag(), total + i), hn::LoadU(Tag(), sums + i)), Tag(), total + i);
  }
}

// Rows [row, row + kRows) by panels [panel, panel + kPanels).
template <typename Weights, int kRows, int kPanels>
void Tile(const LinearJob& job, int64_t panel, int64_t row) {
  const std::byte* panels = job.weights + panel * job.panel_bytes;
  const float* x = job.x + row * job.x_stride;
  float total[kRows][kPanels][kWidth], sums[kRows][kPanels][kWidth];
  for (int64_t block = 0; block < job.k_blocks; ++block) {
    const int64_t k = block * job.block_size;
    const bool first = block == 0 || job.partials();
    SumBlock<Weights, kRows, kPanels>(job, panels, x, k, k + job.block_size, first ? total : sums);
    if (!first) AddSums(sums[0][0], kRows * kPanels * kWidth, total[0][0]);
    if (!job.partials()) continue;
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPanels; ++p) {
        StorePartial(job, block, row + r, (panel + p) * kWidth, kWidth, total[r][p]);
      }
    }
  }
  if (job.partials()) return;
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      StoreSum(job, row + r, (panel + p) * kWidth, kWidth, total[r][p]);
    }
  }
}

// Rows [row, row + kRows) by panels [begin, end).
template <typename Weights, int kRows>
void Strip(const LinearJob& job, int64_t begin, int64_t end, int64_t row) {
  constexpr int kPanels = TilePanels(kRows);
  int64_t panel = begin;
  for (; panel + kPanels <= end; panel += kPanels) Tile<Weights, kRows, kPanels>(job, panel, row);
  for (; panel < end; ++panel) Tile<Weights, kRows, 1>(job, panel, row);
}

template <typename Weights>
void StripOf(int rows, const LinearJob& job, int64_t begin, int64_t end, int64_t row) {
  switch (rows) {
    case 1:
      return Strip<Weights, 1>(job, begin, end, row);
    case 2:
      return Strip<Weights, 2>(job, begin, end, row);
    case 3:
      return Strip<Weights, 3>(job, begin, end, row);
    case 4:
      return Strip<Weights, 4>(job, begin, end, row);
    case 5:
      return Strip<Weights, 5>(job, begin, end, row);
    case 6:
      return Strip<Weights, 6>(job, begin, end, row);
    case 7:
      return Strip<Weights, std::min(7, kMaxTileRows)>(job, begin, end, row);
    default:
      return Strip<Weights, kMaxTileRows>(job, begin, end, row);
  }
}

// A few panels at a time for all rows, so that only the first group of rows reads them from memory.
template <typename Weights>
void PanelsOf(const LinearJob& job, int64_t panel_begin, int64_t panel_end) {
  const int64_t groups = (job.num_rows + kMaxTileRows - 1) / kMaxTileRows;
  const int first_rows = static_cast<int>((job.num_rows + groups - 1) / groups);
  const int64_t step = TilePanels(first_rows);
  for (int64_t panel = panel_begin; panel < panel_end; panel += step) {
    const int64_t end = std::min(panel + step, panel_end);
    for (int64_t group = 0; group < groups; ++group) {
      const auto [row, row_end] = Share(job.num_rows, group, groups);
      StripOf<Weights>(static_cast<int>(row_end - row), job, panel, end, row);
    }
  }
}

void LinearPanels(const LinearJob& job, int64_t panel_begin, int64_t panel_end) {
  if (job.dtype == DType::kF32) {
    PanelsOf<F32Weights>(job, panel_begin, panel_end);
  } else {
    PanelsOf<Bf16Weights>(job, panel_begin, panel_end);
  }
}

#endif

int WidthOfPanels() { return kWidth; }

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

// Rows that pass over the weights together: their x stays in the second-level cache.
constexpr int64_t kRowsPerPass = 48;

#if defined(__x86_64__) && !defined(__AVX2__)
#define KRAIT_PICK_WIDEST(target, Function) \
  ((target) == Target::kAvx3 ? &N_AVX3::Function : KRAIT_PICK(target, Function))
#else
#define KRAIT_PICK_WIDEST(target, Function) KRAIT_PICK(target, Function)
#endif

LinearJob MakeJob(const LinearParams& params, const PackedWeight& weight) {
  LinearJob job;
  job.weights = weight.panel(0);
  job.panel_bytes = weight.panel_bytes();
  job.dtype = weight.dtype();
  job.n = weight.n();
  job.k_blocks = weight.k_blocks();
  job.block_size = weight.k() / weight.k_blocks();
  job.x = params.x.ptr<float>();
  job.x_stride = params.x.row_stride;
  job.num_rows = params.x.dim(0);
  job.y = params.y.ptr<float>();
  job.y_stride = params.partials ? weight.n() : params.y.row_stride;
  job.block_stride = params.partials ? job.num_rows * weight.n() : 0;
  if (params.residual) {
    job.residual = params.residual->ptr<float>();
    job.residual_stride = params.residual->row_stride;
  }
  return job;
}

// Threads take pieces as they come free, so that one that wakes late or loses its core holds up the
// others by a piece at most. A multiple of the panels a tile covers.
int64_t PanelsPerPiece(int64_t num_panels, int num_threads) {
  constexpr int64_t kTilePanels = 4, kMaxPanels = 32, kPiecesPerThread = 4;
  if (num_threads == 1) return num_panels;
  const int64_t share = num_panels / (num_threads * kPiecesPerThread);
  return std::clamp(share / kTilePanels * kTilePanels, kTilePanels, kMaxPanels);
}

void CheckShapes(const LinearParams& params, const PackedWeight& weight) {
  const Shape rows = {params.x.dim(0), weight.n()};
  const Shape blocks = {weight.k_blocks(), params.x.dim(0), weight.n()};
  CHECK_EQ(params.x.dim(1), weight.k());
  CHECK(params.y.shape == (params.partials ? blocks : rows)) << params.y.shape.ToString();
  CHECK(!params.partials || (params.residual == nullptr && params.y.dense()));
  CHECK(!params.residual || params.residual->shape == rows) << params.residual->shape.ToString();
}

}  // namespace

int PanelWidth(Target target) { return KRAIT_PICK_WIDEST(target, WidthOfPanels)(); }

void RunLinear(const CpuContext& context, const LinearParams& params) {
  const auto& weight = static_cast<const PackedWeight&>(*params.weight);
  CHECK_EQ(weight.panel_width(), PanelWidth(context.target));
  CheckShapes(params, weight);
  const LinearJob job = MakeJob(params, weight);
  const auto panels = KRAIT_PICK_WIDEST(context.target, LinearPanels);
  const int64_t num_panels = weight.num_panels();
  const int64_t piece = PanelsPerPiece(num_panels, context.pool->num_threads());
  context.pool->ForEach((num_panels + piece - 1) / piece, [&](int64_t task) {
    const int64_t begin = task * piece, end = std::min(begin + piece, num_panels);
    for (int64_t row = 0; row < job.num_rows; row += kRowsPerPass) {
      panels(job.Rows(row, std::min(row + kRowsPerPass, job.num_rows)), begin, end);
    }
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
