// argmax over a row of z + G, z = (l - max) / T, G the noise of common/gumbel.h; ties to the lower
// id. Score and id make one number, so the largest is the same in any order. All noise is made: it
// is cheap here, and what the CPU passes over could not win.

#include <limits>

#include "common/gumbel.h"
#include "common/logging.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/logits_row.cuh"

namespace krait::kernels {
namespace {

struct GumbelItem {
  const float* logits;
  const TokenId* ids;  // on the device; null: first_id + i
  int64_t n;
  TokenId first_id;
  float max, temperature, min_z;
  GumbelKey key;
};
using Best = unsigned long long;  // OrderedBits of the score, ~id; 0: none

__device__ float ScoreOf(const GumbelItem& item, float logit, TokenId id) {
  if (item.temperature == 0) return logit;
  const float z = (logit - item.max) / item.temperature;
  if (item.min_z > z) return -INFINITY;
  return z + Gumbel(item.key, id);
}

__global__ void FindBest(const GumbelItem* items, Best* results) {
  const GumbelItem item = items[blockIdx.y];
  Best best = 0;
  ForPiece(item.n, [&](int64_t i) {
    const TokenId id = item.ids == nullptr ? item.first_id + static_cast<TokenId>(i) : item.ids[i];
    const float score = ScoreOf(item, item.logits[i], id);
    if (!(score > -INFINITY)) return;
    // -0 and +0 tie.
    const Best ordered = OrderedBits(score == 0 ? 0.0f : score);
    best = max(best, ordered << 32 | ~static_cast<uint32_t>(id));
  });
  for (int offset = 16; offset > 0; offset /= 2) {
    best = max(best, __shfl_xor_sync(0xffffffffu, best, offset));
  }
  if (threadIdx.x % 32 == 0 && best != 0) atomicMax(&results[blockIdx.y], best);
}

__global__ void Noise(GumbelKey key, TokenId first, int64_t n, float* out) {
  const int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i < n) out[i] = Gumbel(key, first + static_cast<TokenId>(i));
}

GumbelBest BestOf(Best best) {
  if (best == 0) return {-std::numeric_limits<float>::infinity(), -1};
  const auto ordered = static_cast<uint32_t>(best >> 32);
  const uint32_t bits = (ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered;
  return {std::bit_cast<float>(bits), static_cast<TokenId>(~static_cast<uint32_t>(best))};
}

// Ids of all rows that have a list, on the device; rows of one shard share it.
class IdLists {
 public:
  IdLists(const CudaContext& context, absl::Span<const GumbelRow> rows) {
    for (const GumbelRow& row : rows) {
      const LogitsShard& shard = row.shard;
      if (shard.ids == nullptr || Find(shard) != nullptr) continue;
      absl::StatusOr<Tensor> ids = AllocateDevice(0, DType::kI32, {shard.n});
      CHECK(ids.ok()) << ids.status();
      context.link->Upload(shard.ids, ids->ptr<void>(), shard.n * sizeof(TokenId));
      lists_.push_back({shard.ids, shard.n, *std::move(ids)});
    }
  }
  const TokenId* Find(const LogitsShard& shard) const {
    for (const List& list : lists_) {
      if (list.host == shard.ids && list.n == shard.n) return list.device.ptr<TokenId>();
    }
    return nullptr;
  }

 private:
  struct List {
    const TokenId* host;
    int64_t n;
    Tensor device;
  };
  std::vector<List> lists_;
};

}  // namespace

void RunGumbelArgmax(const CudaContext& context, absl::Span<const GumbelRow> rows,
                     absl::Span<GumbelBest> out) {
  CHECK_EQ(rows.size(), out.size());
  if (rows.empty()) return;
  const IdLists lists(context, rows);
  std::vector<GumbelItem> items;
  for (const GumbelRow& row : rows) {
    items.push_back({row.shard.logits,
                     lists.Find(row.shard),
                     row.shard.n,
                     row.shard.first_id,
                     row.max,
                     row.temperature,
                     row.min_z,
                     {row.seed, row.position, row.choice}});
  }
  const RowExchange<GumbelItem, Best> exchange(context, items);
  FindBest<<<PieceGrid(LongestRow(rows), rows.size()), kRowThreads, 0, context.stream>>>(
      exchange.items(), exchange.results());
  KRAIT_CHECK_LAUNCH("GumbelArgmax");
  const std::vector<Best> results = exchange.Download();
  for (size_t i = 0; i < rows.size(); ++i) out[i] = BestOf(results[i]);
}

void FillGumbel(const CudaContext& context, const GumbelKey& key, TokenId first,
                absl::Span<float> out) {
  const auto n = static_cast<int64_t>(out.size());
  auto* noise = context.workspace->Get<float>(n);
  Noise<<<static_cast<unsigned>((n + kRowThreads - 1) / kRowThreads), kRowThreads, 0,
          context.stream>>>(key, first, n, noise);
  KRAIT_CHECK_LAUNCH("FillGumbel");
  context.link->Download(noise, out.data(), out.size() * sizeof(float));
}

}  // namespace krait::kernels
