// The small ops between products, on one row and on a chunk of a prompt.

#include "kernels/bench/bench_util.h"

namespace krait::kernels {
namespace {

void BM_RmsNorm(benchmark::State& state) {
  const int64_t rows = state.range(0), n = 576;
  const auto backend = MakeBackend(1);
  std::vector<float> x(rows * n, 3.0f), weight(n, 2.0f), y(rows * n);
  const RmsNormParams params = {.x = Matrix(x, rows, n),
                                .weight = TensorView(weight.data(), DType::kF32, {n}),
                                .y = Matrix(y, rows, n)};
  backend->RmsNorm(params);
  CheckNear(y.back(), 2.0, 1e-5);
  for (auto _ : state) backend->RmsNorm(params);
  SetRates(state, 2.0 * rows * n * sizeof(float));
}
BENCHMARK(BM_RmsNorm)->Arg(1)->Arg(256)->Unit(benchmark::kMicrosecond);

void BM_SiluMul(benchmark::State& state) {
  const int64_t rows = state.range(0), n = 1536;
  const auto backend = MakeBackend(1);
  std::vector<float> gate_up(rows * 2 * n, 1.0f), y(rows * n);
  const SiluMulParams params = {.gate_up = Matrix(gate_up, rows, 2 * n), .y = Matrix(y, rows, n)};
  backend->SiluMul(params);
  CheckNear(y.back(), 1.0 / (1.0 + std::exp(-1.0)), 1e-6);
  for (auto _ : state) backend->SiluMul(params);
  SetRates(state, 3.0 * rows * n * sizeof(float));
}
BENCHMARK(BM_SiluMul)->Arg(1)->Arg(256)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace krait::kernels
