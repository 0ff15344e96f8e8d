// One layer of SmolLM2-135M: 9 query heads over 3 KV heads of 64, pages of 16. Decoding reads every
// key and value of the context once; a chunk of a prompt is bound by arithmetic.

#include <numeric>

#include "kernels/bench/bench_util.h"

namespace krait::kernels {
namespace {

constexpr int64_t kHeads = 9, kKvHeads = 3, kHeadDim = 64, kPageSize = 16;

// range: new tokens, context (their own included), threads.
void BM_PagedAttention(benchmark::State& state) {
  const int64_t tokens = state.range(0), context = state.range(1);
  const int64_t pages = (context + kPageSize - 1) / kPageSize;
  const auto backend = MakeBackend(static_cast<int>(state.range(2)));
  std::vector<float> q = RandomFloats(tokens * kHeads * kHeadDim, 1);
  std::vector<float> k = RandomFloats(pages * kKvHeads * kPageSize * kHeadDim, 2);
  std::vector<float> v(k.size(), 1.5f);  // any weighted mean of which is 1.5
  std::vector<float> out(q.size());
  std::vector<int32_t> positions(tokens), table(pages);
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(context - tokens));
  std::iota(table.begin(), table.end(), 0);
  const int32_t query_start[] = {0, static_cast<int32_t>(tokens)};
  const Shape cache = {pages, kKvHeads, kPageSize, kHeadDim};
  const PagedAttentionParams params = {
      .q = TensorView(q.data(), DType::kF32, {tokens, kHeads, kHeadDim}),
      .k_cache = TensorView(k.data(), DType::kF32, cache),
      .v_cache = TensorView(v.data(), DType::kF32, cache),
      .num_sequences = 1,
      .query_start = query_start,
      .positions = positions.data(),
      .page_table = table.data(),
      .page_table_stride = pages,
      .scale = 0.125f,
      .out = Matrix(out, tokens, kHeads * kHeadDim)};
  backend->PagedAttention(params);
  for (float value : out) CheckNear(value, 1.5, 1e-5);
  for (auto _ : state) backend->PagedAttention(params);
  double keys = 0;
  for (int32_t position : positions) keys += position + 1;
  SetRates(state, 2.0 * context * kKvHeads * kHeadDim * sizeof(float),
           4.0 * keys * kHeads * kHeadDim);
}
BENCHMARK(BM_PagedAttention)
    ->ArgNames({"tokens", "context", "threads"})
    ->ArgsProduct({{1, 5}, {128, 1500}, {1, 2}})
    ->Args({256, 256, 1})
    ->Args({256, 1500, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

}  // namespace
}  // namespace krait::kernels
