#include <algorithm>
#include <numeric>
#include <vector>

#include "common/logging.h"
#include "kernels/cpu/cpu_ops.h"

namespace krait::kernels {
namespace {

GumbelRow RowOf(const DrawTokensParams& params, int64_t r) {
  const DrawChoice& choice = params.choices[r];
  return {.shard = {params.logits.row<float>(r), params.logits.dim(1), params.first_id, params.ids},
          .temperature = choice.temperature,
          .min_z = choice.min_z,
          .seed = choice.seed,
          .position = int64_t{params.positions[params.rows[r]]} + 1,
          .choice = choice.choice};
}

std::vector<uint64_t> Masses(const CpuContext& context, const GumbelRow& row,
                             absl::Span<const int64_t> places) {
  std::vector<MassRow> rows;
  for (const int64_t i : places) {
    rows.push_back({{row.shard.logits + i, 1}, row.max, row.temperature});
  }
  std::vector<uint64_t> masses(rows.size());
  RunExpMass(context, rows, absl::MakeSpan(masses));
  return masses;
}

// How many places, in falling order, hold the share of their mass.
size_t NucleusSize(absl::Span<const uint64_t> masses, uint64_t share) {
  const uint64_t total = std::accumulate(masses.begin(), masses.end(), uint64_t{0});
  const auto part = static_cast<uint64_t>(static_cast<unsigned __int128>(total) * share >> 32);
  const uint64_t nucleus = std::max<uint64_t>(1, part);
  uint64_t sum = 0;
  size_t size = 0;
  while (sum < nucleus) sum += masses[size++];
  return size;
}

// The places that the filters leave, rising.
std::vector<int64_t> Kept(const CpuContext& context, const GumbelRow& row,
                          const DrawChoice& choice) {
  const float* logits = row.shard.logits;
  std::vector<int64_t> places;
  for (int64_t i = 0; i < row.shard.n; ++i) {
    if (!((logits[i] - row.max) / row.temperature < row.min_z)) places.push_back(i);
  }
  std::stable_sort(places.begin(), places.end(),
                   [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
  if (choice.top_k > 0 && places.size() > static_cast<size_t>(choice.top_k)) {
    places.resize(choice.top_k);
  }
  if (choice.top_p < kWholeMass) {
    places.resize(NucleusSize(Masses(context, row, places), choice.top_p));
  }
  std::sort(places.begin(), places.end());
  return places;
}

TokenId DrawFiltered(const CpuContext& context, GumbelRow row, const DrawChoice& choice) {
  std::vector<float> logits;
  std::vector<TokenId> ids;
  for (const int64_t i : Kept(context, row, choice)) {
    logits.push_back(row.shard.logits[i]);
    ids.push_back(row.shard.ids ? row.shard.ids[i] : row.shard.first_id + static_cast<TokenId>(i));
  }
  row.shard = {logits.data(), static_cast<int64_t>(logits.size()), 0, ids.data()};
  GumbelBest best;
  RunGumbelArgmax(context, {&row, 1}, absl::MakeSpan(&best, 1));
  return best.id;
}

}  // namespace

void RunDrawTokens(const CpuContext& context, const DrawTokensParams& params) {
  CHECK(params.logits.dtype == DType::kF32);
  const int64_t num_rows = params.logits.dim(0);
  std::vector<LogitsShard> shards;
  for (int64_t r = 0; r < num_rows; ++r) shards.push_back(RowOf(params, r).shard);
  std::vector<RowMax> maxima(shards.size());
  RunFindRowMax(context, shards, absl::MakeSpan(maxima));
  std::vector<GumbelRow> whole;  // their filters are off, or they are greedy and look at none
  std::vector<int64_t> owner;
  for (int64_t r = 0; r < num_rows; ++r) {
    const DrawChoice& choice = params.choices[r];
    params.tokens[r] = kNoToken;
    if (choice.drawn == 0 || !maxima[r].finite) continue;
    GumbelRow row = RowOf(params, r);
    row.max = maxima[r].max;
    if (choice.filtered() && choice.temperature != 0) {
      CHECK(params.any_filtered);
      params.tokens[r] = DrawFiltered(context, row, choice);
    } else {
      whole.push_back(row);
      owner.push_back(r);
    }
  }
  std::vector<GumbelBest> best(whole.size());
  RunGumbelArgmax(context, whole, absl::MakeSpan(best));
  for (size_t i = 0; i < whole.size(); ++i) params.tokens[owner[i]] = best[i].id;
}

}  // namespace krait::kernels
