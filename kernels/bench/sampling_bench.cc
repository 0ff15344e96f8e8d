// Drawing tokens: rows of a SmolLM2 verification, from flat logits (the worst case, where noise
// must be made for every id) and from peaked ones.

#include <algorithm>
#include <limits>

#include "common/gumbel.h"
#include "kernels/bench/bench_util.h"

namespace krait::kernels {
namespace {

constexpr int64_t kVocabulary = 49152;

TokenId PlainArgmax(const GumbelRow& row) {
  float best = -std::numeric_limits<float>::infinity();
  TokenId best_id = -1;
  for (TokenId id = 0; id < row.shard.n; ++id) {
    const float z = (row.shard.logits[id] - row.max) / row.temperature;
    const float score = z + Gumbel({row.seed, row.position, row.choice}, id);
    if (score > best) best = score, best_id = id;
  }
  return best_id;
}

// range: rows, threads, standard deviation of the logits.
void BM_GumbelArgmax(benchmark::State& state) {
  const auto backend = MakeBackend(static_cast<int>(state.range(1)));
  std::vector<float> logits = RandomFloats(kVocabulary, 3);
  float max = -std::numeric_limits<float>::infinity();
  for (float& logit : logits) max = std::max(max, logit *= static_cast<float>(state.range(2)));
  std::vector<GumbelRow> rows;
  for (int64_t i = 0; i < state.range(0); ++i) {
    rows.push_back({{logits.data(), kVocabulary, 0, nullptr},
                    max,
                    1.0f,
                    -std::numeric_limits<float>::infinity(),
                    7,
                    i});
  }
  std::vector<GumbelBest> best(rows.size());
  backend->GumbelArgmax(rows, absl::MakeSpan(best));
  CHECK_EQ(best.back().id, PlainArgmax(rows.back()));
  for (auto _ : state) backend->GumbelArgmax(rows, absl::MakeSpan(best));
  const double elements = static_cast<double>(kVocabulary) * state.range(0);
  SetRates(state, elements * sizeof(float), elements);
}
BENCHMARK(BM_GumbelArgmax)
    ->ArgNames({"rows", "threads", "deviation"})
    ->ArgsProduct({{1, 5}, {1, 2}, {0, 1, 4}})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void BM_TopCandidates(benchmark::State& state) {
  const auto backend = MakeBackend(1);
  std::vector<float> logits = RandomFloats(kVocabulary, 4);
  const std::vector<TopRow> rows = {
      {{logits.data(), kVocabulary, 0, nullptr}, static_cast<int>(state.range(0))}};
  std::vector<std::vector<Candidate>> top(1);
  backend->TopCandidates(rows, absl::MakeSpan(top));
  CHECK_EQ(top[0].front().logit, *std::max_element(logits.begin(), logits.end()));
  for (auto _ : state) backend->TopCandidates(rows, absl::MakeSpan(top));
  SetRates(state, kVocabulary * sizeof(float));
}
BENCHMARK(BM_TopCandidates)->Arg(50)->Arg(1000)->Arg(8000)->Unit(benchmark::kMicrosecond);

void BM_FindRowMax(benchmark::State& state) {
  const auto backend = MakeBackend(1);
  std::vector<float> logits = RandomFloats(kVocabulary, 5);
  const std::vector<LogitsShard> rows = {{logits.data(), kVocabulary, 0, nullptr}};
  std::vector<RowMax> max(1);
  backend->FindRowMax(rows, absl::MakeSpan(max));
  CHECK_EQ(max[0].max, *std::max_element(logits.begin(), logits.end()));
  for (auto _ : state) backend->FindRowMax(rows, absl::MakeSpan(max));
  SetRates(state, kVocabulary * sizeof(float));
}
BENCHMARK(BM_FindRowMax)->Unit(benchmark::kMicrosecond);

void BM_ExpMass(benchmark::State& state) {
  const auto backend = MakeBackend(1);
  std::vector<float> logits(kVocabulary, 1.0f);
  const std::vector<MassRow> rows = {{{logits.data(), kVocabulary, 0, nullptr}, 1.0f, 1.0f}};
  std::vector<uint64_t> mass(1);
  backend->ExpMass(rows, absl::MakeSpan(mass));
  CHECK_EQ(mass[0], static_cast<uint64_t>(kVocabulary) << 40);
  for (auto _ : state) backend->ExpMass(rows, absl::MakeSpan(mass));
  SetRates(state, kVocabulary * sizeof(float));
}
BENCHMARK(BM_ExpMass)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace krait::kernels
