// All linear layers of SmolLM2-135M, once each in the model's order: what one step of decoding
// (1 to 8 rows) or a chunk of a prompt (hundreds) spends on weights. 269 MB in bf16, far above any
// cache, so nothing is reused from the iteration before.

#include <algorithm>
#include <chrono>

#include "absl/status/status.h"
#include "kernels/bench/bench_util.h"
#include "kernels/core/bf16.h"
#include "kernels/cpu/read_bandwidth.h"

namespace krait::kernels {
namespace {

struct LayerShape {
  int64_t n, k, k_blocks;
};

constexpr int kLayers = 30;
constexpr LayerShape kLayer[] = {{960, 576, 1}, {576, 576, 3}, {3072, 576, 1}, {576, 1536, 12}};
constexpr LayerShape kHead = {49152, 576, 1};

float WeightAt(int64_t row, int64_t k) {
  return static_cast<float>((row * 131 + k * 71) % 257 - 128) / 128.0f;
}

std::unique_ptr<LinearWeight> Prepare(Backend& backend, const LayerShape& shape, DType dtype) {
  LinearSource source{shape.n, shape.k, shape.k_blocks, dtype, nullptr};
  source.read_rows = [&](int64_t begin, int64_t end, float* out) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t k = 0; k < shape.k; ++k) *out++ = WeightAt(row, k);
    }
    return absl::OkStatus();
  };
  auto weight = backend.PrepareLinear(source);
  CHECK_OK(weight.status());
  return *std::move(weight);
}

class Chain {
 public:
  Chain(Backend* backend, DType dtype) : backend_(backend) {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const LayerShape& shape : kLayer) weights_.push_back(Prepare(*backend, shape, dtype));
    }
    weights_.push_back(Prepare(*backend, kHead, dtype));
  }

  int64_t num_bytes() const {
    int64_t total = 0;
    for (const auto& weight : weights_) total += weight->num_bytes();
    return total;
  }
  int64_t num_weights() const {
    int64_t total = 0;
    for (const auto& weight : weights_) total += weight->n() * weight->k();
    return total;
  }

  // A prompt needs the head's logits of its last row only.
  void Run(int64_t rows, bool head_of_all_rows) {
    if (x_.size() != static_cast<size_t>(rows * kMaxK)) Resize(rows);
    for (const auto& weight : weights_) {
      const bool last_only = weight == weights_.back() && !head_of_all_rows;
      const int64_t count = last_only ? 1 : rows;
      backend_->Linear({.x = Matrix(x_, rows, kMaxK).Columns(0, weight->k()).Rows(0, count),
                        .weight = weight.get(),
                        .y = TensorView(y_.data(), DType::kF32, {count, weight->n()})});
    }
  }

  void CheckHead(int64_t rows) {
    Run(rows, true);
    for (int64_t output : {int64_t{0}, int64_t{77}, kHead.n - 1}) {
      double sum = 0;
      const float* x = x_.data() + (rows - 1) * kMaxK;
      for (int64_t k = 0; k < kHead.k; ++k) sum += double{x[k]} * WeightAt(output, k);
      CheckNear(y_[(rows - 1) * kHead.n + output], sum, 1e-3);
    }
  }

 private:
  static constexpr int64_t kMaxK = 1536;
  void Resize(int64_t rows) {
    x_ = RandomFloats(rows * kMaxK, 1);
    y_.assign(rows * kHead.n, 0.0f);
  }

  Backend* const backend_;
  std::vector<std::unique_ptr<LinearWeight>> weights_;
  std::vector<float> x_, y_;
};

void BM_ModelLinears(benchmark::State& state, DType dtype, const char* target = "") {
  const int64_t rows = state.range(0);
  const bool decode = rows <= 16;
  const auto backend = MakeBackend(static_cast<int>(state.range(1)), target);
  Chain chain(backend.get(), dtype);
  chain.CheckHead(std::min<int64_t>(rows, 16));
  std::vector<double> times;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    chain.Run(rows, decode);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    times.push_back(seconds.count());
  }
  std::sort(times.begin(), times.end());
  const double best = times.front();
  const int64_t weights = chain.num_weights() - (decode ? 0 : kHead.n * kHead.k);
  SetRates(state, static_cast<double>(chain.num_bytes()), 2.0 * rows * weights);
  state.counters["median_ms"] = times[times.size() / 2] * 1e3;
  state.counters["best_ms"] = best * 1e3;
  state.counters["best_GB/s"] = chain.num_bytes() / best * 1e-9;
}
#define DECODE_ROWS ArgsProduct({{1, 2, 3, 4, 5, 6, 7, 8}, {2}})
BENCHMARK_CAPTURE(BM_ModelLinears, bf16, DType::kBF16)
    ->DECODE_ROWS->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_ModelLinears, bf16_one_thread, DType::kBF16)
    ->Args({1, 1})
    ->Args({5, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
#if defined(__x86_64__)
BENCHMARK_CAPTURE(BM_ModelLinears, bf16_avx2, DType::kBF16, "avx2")
    ->DECODE_ROWS->Unit(benchmark::kMillisecond)
    ->UseRealTime();
#endif
BENCHMARK_CAPTURE(BM_ModelLinears, f32, DType::kF32)
    ->Args({1, 2})
    ->Args({5, 2})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_ModelLinears, bf16_prefill, DType::kBF16)
    ->Args({64, 2})
    ->Args({256, 2})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
#undef DECODE_ROWS

void BM_ReadBandwidth(benchmark::State& state) {
  double best = 0;
  for (auto _ : state)
    best = std::max(best, MeasureReadBandwidth(static_cast<int>(state.range(0))));
  state.counters["best_GB/s"] = best * 1e-9;
}
BENCHMARK(BM_ReadBandwidth)->Arg(1)->Arg(2)->Iterations(3)->UseRealTime();

}  // namespace
}  // namespace krait::kernels
