// Causal attention over pages, in splits of kAttentionSplit keys on the absolute grid.
//
// One split, one query head:
//
//   s[j] = scale * (q . k[j]): eight lanes, lane l sums d = l mod 8 in increasing d, then a tree
//
//   m = max s; p[j] = e^(s[j] - m); l = sum of p: eight lanes, lane l sums j = l mod 8
//
//   o[d]: one chain of fused multiply-adds of p[j] v[j][d] over j
//
// Splits in increasing order:
//   M' = max(M, m); a = e^(M - M'); b = e^(m - M'); L = fma(l, b, L a); O[d] = fma(o[d], b, O[d] a)
// and out = O / L. Keys before a sliding window keep their lanes and contribute nothing: p = 0 to
// l, no term to o. The bits depend on the position, the window and the cache only.

#include <algorithm>
#include <limits>

#include "common/logging.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/cpu_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/paged_attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

static_assert(kAttentionSplit % kLanes == 0);

// s[j] of eight keys at a time, to hide the latency of their chains; returns the maximum. Scores
// beside the keys, where only lanes are, are -infinity.
float Scores(const AttentionTile& tile, const SplitRows& rows, const float* q, float* scores) {
  F32 max = SetF32(-std::numeric_limits<float>::infinity());
  for (int j = rows.first_lane(); j < rows.end; j += kLanes) {
    const float* const* k = rows.k + j;
    F32 sums[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes; ++i) sums[i] = SetF32(0.0f);
    for (int64_t d = 0; d < tile.head_dim; d += kLanes) {
      const F32 query = Load(q + d);
#pragma GCC unroll 8
      for (int i = 0; i < kLanes; ++i) sums[i] = Fma(query, Load(k[i] + d), sums[i]);
    }
    const F32 s = Mul(SumLanesOfEach(sums), SetF32(tile.scale));
    Store(s, scores + j);
    max = Larger(max, s);  // lanes beside the keys repeat one
  }
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  std::fill(scores + rows.first_lane(), scores + rows.begin, kNothing);
  for (int j = rows.end; j % kLanes != 0; ++j) scores[j] = kNothing;
  float lanes[kLanes];
  Store(max, lanes);
  return *std::max_element(lanes, lanes + kLanes);
}

// Scores to e^(s - max), in place; returns their sum.
float Exponentials(const SplitRows& rows, float max, float* scores) {
  F32 sum = SetF32(0.0f);
  for (int j = rows.first_lane(); j < rows.end; j += kLanes) {
    const F32 p = Exp(Sub(Load(scores + j), SetF32(max)));
    Store(p, scores + j);
    sum = Add(sum, p);
  }
  return SumLanes(sum);
}

// o[d] = sum of p[j] v[j][d], for kVectors vectors of d from `d` on.
template <int kVectors>
HWY_INLINE void WeightedValues(const SplitRows& rows, const float* p, int64_t d, float* o) {
  F32 sums[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) sums[i] = SetF32(0.0f);
  for (int j = rows.begin; j < rows.end; ++j) {
    const float* v = rows.v[j] + d;
    const F32 weight = SetF32(p[j]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) sums[i] = Fma(weight, Load(v + i * kLanes), sums[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) Store(sums[i], o + d + i * kLanes);
}

// One split of one query head: o [head_dim], and its maximum and sum in state.
void AttendSplit(const AttentionTile& tile, const SplitRows& rows, const float* q,
                 SplitState* state, float* o) {
  alignas(64) float scores[kAttentionSplit];
  state->max = Scores(tile, rows, q, scores);
  state->sum = Exponentials(rows, state->max, scores);
  int64_t d = 0;
  for (; d + 8 * kLanes <= tile.head_dim; d += 8 * kLanes) {
    WeightedValues<8>(rows, scores, d, o);
  }
  for (; d < tile.head_dim; d += kLanes) WeightedValues<1>(rows, scores, d, o);
}

// Takes one more split into what earlier ones came to.
void CombineSplit(int64_t head_dim, const SplitState& split, const float* o, SplitState* total,
                  float* out) {
  float max_lanes[kLanes] = {};
  const float max = std::max(total->max, split.max);
  max_lanes[0] = total->max - max;
  max_lanes[1] = split.max - max;
  float factors[kLanes];
  Store(Exp(Load(max_lanes)), factors);
  total->max = max;
  Store(Fma(SetF32(split.sum), SetF32(factors[1]), Mul(SetF32(total->sum), SetF32(factors[0]))),
        max_lanes);
  total->sum = max_lanes[0];
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    Store(Fma(Load(o + d), SetF32(factors[1]), Mul(Load(out + d), SetF32(factors[0]))), out + d);
  }
}

void DivideBySum(int64_t head_dim, const SplitState& total, float* out) {
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    Store(Div(Load(out + d), SetF32(total.sum)), out + d);
  }
}

// Query heads [0, num_heads) of one token at `position`, all over the tile's KV head; q and out
// [num_heads, head_dim].
void AttendHeads(const AttentionTile& tile, const float* q, int64_t num_heads, int64_t position,
                 float* out) {
  SplitState totals[kMaxAttentionGroup];
  SplitRows rows;
  alignas(64) float o[kMaxAttentionHeadDim];
  const int64_t first_key = tile.FirstKey(position);
  const int64_t first_split = first_key / kAttentionSplit * kAttentionSplit;
  for (int64_t first = first_split; first <= position; first += kAttentionSplit) {
    rows.Locate(tile, first, std::max(first, first_key),
                std::min(first + kAttentionSplit, position + 1));
    for (int64_t head = 0; head < num_heads; ++head) {
      const float* head_q = q + head * tile.head_dim;
      float* head_out = out + head * tile.head_dim;
      if (first == first_split) {
        AttendSplit(tile, rows, head_q, &totals[head], head_out);
        continue;
      }
      SplitState split;
      AttendSplit(tile, rows, head_q, &split, o);
      CombineSplit(tile.head_dim, split, o, &totals[head], head_out);
    }
  }
  for (int64_t head = 0; head < num_heads; ++head) {
    DivideBySum(tile.head_dim, totals[head], out + head * tile.head_dim);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

int SequenceOf(const PagedAttentionParams& params, int64_t token) {
  const int32_t* end = params.query_start + params.num_sequences + 1;
  return static_cast<int>(std::upper_bound(params.query_start, end, token) - params.query_start) -
         1;
}

AttentionTile MakeTile(const PagedAttentionParams& params, int sequence, int64_t kv_head) {
  AttentionTile tile;
  const int64_t page_size = params.k_cache.dim(2);
  tile.head_dim = params.k_cache.dim(3);
  tile.page_size = page_size;
  tile.page_stride = params.k_cache.row_stride;
  tile.page_table = params.page_table + sequence * params.page_table_stride;
  tile.k = params.k_cache.ptr<float>() + kv_head * page_size * tile.head_dim;
  tile.v = params.v_cache.ptr<float>() + kv_head * page_size * tile.head_dim;
  tile.scale = params.scale;
  tile.window = params.window;
  return tile;
}

}  // namespace

void RunPagedAttention(const CpuContext& context, const PagedAttentionParams& params) {
  CheckPagedAttention(params);
  CHECK_EQ(params.query_start[params.num_sequences], params.q.dim(0));
  const int64_t kv_heads = params.k_cache.dim(1), head_dim = params.q.dim(2);
  const int64_t group = params.q.dim(1) / kv_heads;
  const auto attend = KRAIT_PICK(context.target, AttendHeads);
  // Heads that share keys run together, unless that leaves threads without work: three KV heads of
  // one token would keep two threads busy for two heads' time.
  const int64_t num_tokens = params.q.dim(0);
  const bool few = num_tokens * kv_heads < 4 * context.pool->num_threads();
  const int64_t heads_per_task = few ? 1 : group;
  const int64_t tasks_per_token = params.q.dim(1) / heads_per_task;
  context.pool->ForEach(num_tokens * tasks_per_token, [&](int64_t task) {
    const int64_t token = task / tasks_per_token;
    const int64_t first_head = task % tasks_per_token * heads_per_task;
    const AttentionTile tile = MakeTile(params, SequenceOf(params, token), first_head / group);
    attend(tile, params.q.row<float>(token) + first_head * head_dim, heads_per_task,
           params.positions[token], params.out.row<float>(token) + first_head * head_dim);
  });
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
