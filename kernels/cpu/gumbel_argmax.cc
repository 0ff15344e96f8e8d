// argmax over a row of z + G, z = (l - max) / T, G the noise of common/gumbel.h; ties to the lower
// id. Noise costs far more than a comparison, so it is made only where it can matter:
//   - a group none of whose z + kMaxGumbel exceeds the best score so far is passed over;
//   - of the others the random words are made, eight blocks of Philox at a time, but no logarithms
//     unless some word is small enough: G = -log(-log1p(-v)) <= -log(v), so z + G > best needs
//     v < e^(z - best).
// Neither changes the result: what is passed over could not have won.

#include <algorithm>
#include <limits>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_segments.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gumbel_argmax.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/target.h"
#include "kernels/cpu/vec8-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels {
namespace HWY_NAMESPACE {

inline constexpr int kGroup = 4 * kLanes;  // ids of eight Philox blocks
inline constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The words of the `kLanes` blocks at `index`.
HWY_INLINE PhiloxBlock BlocksAt(const GumbelKey& key, U32 index) {
  return PhiloxRounds({{SetU32(static_cast<uint32_t>(key.position)), index, SetU32(key.choice),
                        SetU32(kGumbelDomain)}},
                      static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

// words[i] of id `first` + i, i < kGroup; `first` is a multiple of 4.
void GroupWords(const GumbelKey& key, uint32_t first, uint32_t* words) {
  const PhiloxBlock blocks = BlocksAt(key, Iota(first / 4));
  StoreInterleaved(blocks.word[0], blocks.word[1], blocks.word[2], blocks.word[3], words);
}

// words[i] of ids[i], i < kLanes.
void ScatteredWords(const GumbelKey& key, const TokenId* ids, uint32_t* words) {
  uint32_t index[kLanes];
  for (int i = 0; i < kLanes; ++i) index[i] = static_cast<uint32_t>(ids[i]) / 4;
  const PhiloxBlock blocks = BlocksAt(key, Load(index));
  uint32_t all[kGroup];
  StoreInterleaved(blocks.word[0], blocks.word[1], blocks.word[2], blocks.word[3], all);
  for (int i = 0; i < kLanes; ++i) words[i] = all[4 * i + static_cast<uint32_t>(ids[i]) % 4];
}

// The best of a row so far, and what follows from it.
class Search {
 public:
  explicit Search(const GumbelRow& row)
      : row_(row), key_{row.seed, row.position, row.choice}, best_{kLowest, -1} {}

  const GumbelKey& key() const { return key_; }
  const GumbelBest& best() const { return best_; }

  // z of eight logits, -infinity where it is cut.
  F32 Z(F32 logits) const {
    const F32 z = Div(Sub(logits, SetF32(row_.max)), SetF32(row_.temperature));
    return Select(Greater(SetF32(row_.min_z), z), SetF32(kLowest), z);
  }

  bool MayWin(F32 z) const { return AnyGreater(Add(z, SetF32(kMaxGumbel)), SetF32(best_.score)); }

  // Looks at eight ids in increasing order, by their words.
  void Take(F32 z, U32 words, const TokenId* ids) {
    const F32 v = UniformFromWord(words);
    const float margin = 0.001f;  // covers every rounding
    if (!AnyGreater(Exp(Add(z, SetF32(margin - best_.score))), v)) return;
    float scores[kLanes];
    Store(Add(z, GumbelFromUniform(v)), scores);
    for (int i = 0; i < kLanes; ++i) {
      if (scores[i] > best_.score) best_ = {scores[i], ids[i]};
    }
  }

 private:
  const GumbelRow& row_;
  const GumbelKey key_;
  GumbelBest best_;
};

// Ids [first, first + kGroup), `first` a multiple of 4.
HWY_INLINE void TakeGroup(const float* logits, TokenId first, Search* search) {
  F32 z[4];
  bool may_win = false;
  for (int i = 0; i < 4; ++i) {
    z[i] = search->Z(Load(logits + i * kLanes));
    may_win |= search->MayWin(z[i]);
  }
  if (!may_win) return;
  uint32_t words[kGroup];
  GroupWords(search->key(), static_cast<uint32_t>(first), words);
  for (int i = 0; i < 4; ++i) {
    TokenId ids[kLanes];
    Store(Iota(static_cast<uint32_t>(first + i * kLanes)), reinterpret_cast<uint32_t*>(ids));
    search->Take(z[i], Load(words + i * kLanes), ids);
  }
}

// A group whose ids below `from` or from `to` on are not of this segment.
void TakePartOfGroup(const float* logits_of_id0, TokenId first, TokenId from, TokenId to,
                     Search* search) {
  float logits[kGroup];
  for (int i = 0; i < kGroup; ++i) {
    const TokenId id = first + i;
    logits[i] = id >= from && id < to ? logits_of_id0[id - from] : kLowest;
  }
  TakeGroup(logits, first, search);
}

void SearchContiguous(const GumbelRow& row, int64_t begin, int64_t end, Search* search) {
  const TokenId from = row.shard.first_id + static_cast<TokenId>(begin);
  const TokenId to = row.shard.first_id + static_cast<TokenId>(end);
  const float* logits = row.shard.logits + begin;  // of id `from`
  TokenId first = from / 4 * 4;
  if (first < from) {
    TakePartOfGroup(logits, first, from, to, search);
    first += kGroup;
  }
  for (; first + kGroup <= to; first += kGroup) TakeGroup(logits + (first - from), first, search);
  if (first < to) TakePartOfGroup(logits, first, from, to, search);
}

void SearchScattered(const GumbelRow& row, int64_t begin, int64_t end, Search* search) {
  for (int64_t i = begin; i < end; i += kLanes) {
    float logits[kLanes];
    TokenId ids[kLanes];
    for (int j = 0; j < kLanes; ++j) {
      logits[j] = i + j < end ? row.shard.logits[i + j] : kLowest;
      ids[j] = row.shard.ids[std::min(i + j, end - 1)];
    }
    const F32 z = search->Z(Load(logits));
    if (!search->MayWin(z)) continue;
    uint32_t words[kLanes];
    ScatteredWords(search->key(), ids, words);
    search->Take(z, Load(words), ids);
  }
}

GumbelBest BestOfSegment(const GumbelRow& row, int64_t begin, int64_t end) {
  Search search(row);
  if (row.shard.ids) {
    SearchScattered(row, begin, end, &search);
  } else {
    SearchContiguous(row, begin, end, &search);
  }
  return search.best();
}

GumbelBest LargestOfSegment(const GumbelRow& row, int64_t begin, int64_t end) {
  const LogitsShard& shard = row.shard;
  float best = kLowest;
  int64_t best_index = -1;
  for (int64_t i = begin; i < end;) {
    while (i + kLanes <= end && !AnyGreater(Load(shard.logits + i), SetF32(best))) i += kLanes;
    for (const int64_t stop = std::min<int64_t>(i + kLanes, end); i < stop; ++i) {
      if (shard.logits[i] > best) best = shard.logits[best_index = i];
    }
  }
  if (best_index < 0) return {kLowest, -1};
  return {best,
          shard.ids ? shard.ids[best_index] : shard.first_id + static_cast<TokenId>(best_index)};
}

void GumbelLanes(const GumbelKey& key, uint32_t first, float* out) {
  uint32_t words[kGroup];
  GroupWords(key, first, words);
  for (int i = 0; i < kGroup; i += kLanes) Store(GumbelFromWord(Load(words + i)), out + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace krait::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {

void RunGumbelArgmax(const CpuContext& context, absl::Span<const GumbelRow> rows,
                     absl::Span<GumbelBest> out) {
  CHECK_EQ(rows.size(), out.size());
  const std::vector<RowSegment> segments = CutRows(rows);
  std::vector<GumbelBest> bests(segments.size());
  const auto drawn = KRAIT_PICK(context.target, BestOfSegment);
  const auto largest = KRAIT_PICK(context.target, LargestOfSegment);
  context.pool->ForEach(segments.size(), [&](int64_t i) {
    const RowSegment& segment = segments[i];
    const GumbelRow& row = rows[segment.row];
    bests[i] = (row.temperature > 0 ? drawn : largest)(row, segment.begin, segment.end);
  });
  std::fill(out.begin(), out.end(), GumbelBest{-std::numeric_limits<float>::infinity(), -1});
  for (size_t i = 0; i < segments.size(); ++i) {
    GumbelBest& best = out[segments[i].row];
    if (bests[i].score > best.score) best = bests[i];
  }
}

void FillGumbel(Target target, const GumbelKey& key, TokenId first, absl::Span<float> out) {
  CHECK_EQ(first % 4, 0);
  constexpr size_t kGroupIds = 32;
  const auto fill = KRAIT_PICK(target, GumbelLanes);
  for (size_t i = 0; i < out.size(); i += kGroupIds) {
    float lanes[kGroupIds];
    fill(key, static_cast<uint32_t>(first) + static_cast<uint32_t>(i), lanes);
    std::copy_n(lanes, std::min(kGroupIds, out.size() - i), out.data() + i);
  }
}

}  // namespace krait::kernels
#endif  // HWY_ONCE
