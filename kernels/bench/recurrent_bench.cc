// One recurrent layer of an 8B hybrid and one sequence: Mamba2 with 32 heads of 128 x 128 over 8
// groups (a state of 2 MiB), Mamba1 with 4,096 channels of 16 states. A step verifies 1 or 9
// tokens, all of which become final.

#include <algorithm>

#include "kernels/bench/bench_util.h"

namespace krait::kernels {
namespace {

// The batch of a sequence that runs `tokens` tokens a call.
class Steps {
 public:
  explicit Steps(int32_t tokens) : query_start_{0, tokens} {}

  RecurrentBatch batch() const {
    return {.num_sequences = 1,
            .query_start = query_start_,
            .slots = &slot_,
            .first_position = &first_,
            .final_position = &final_,
            .state_position = &first_};
  }
  // Before each call.
  void Advance() {
    first_ = final_;
    final_ += query_start_[1];
  }

 private:
  int32_t query_start_[2];
  int32_t slot_ = 0;
  int32_t first_ = 0;
  int32_t final_ = 0;
};

void Report(benchmark::State& state, const StateTraffic& traffic) {
  SetRates(state, static_cast<double>(traffic.total()) / static_cast<double>(state.iterations()));
}

// range: tokens, threads.
void BM_SelectiveStateUpdate(benchmark::State& state) {
  constexpr int64_t kHeads = 32, kGroups = 8, kDim = 128, kRing = 31 + 8;
  constexpr int64_t kXb = 2 * kGroups * kDim, kXbc = kXb + kHeads * kDim;
  const int64_t tokens = state.range(0);
  const auto backend = MakeBackend(static_cast<int>(state.range(1)));
  std::vector<float> xbc = RandomFloats(tokens * kXbc, 1), dt(tokens * kHeads, -2.0f);
  std::vector<float> dt_bias(kHeads), a(kHeads, -1.0f), d = RandomFloats(kHeads, 2);
  std::vector<float> slots(kHeads * kDim * kDim), ring(kRing * (kXb + kHeads));
  std::vector<float> y(tokens * kHeads * kDim);
  Steps steps(static_cast<int32_t>(tokens));
  StateTraffic traffic;
  SelectiveStateUpdateParams params = {
      .xbc = Matrix(xbc, tokens, kXbc),
      .dt = Matrix(dt, tokens, kHeads),
      .dt_bias = TensorView(dt_bias.data(), DType::kF32, {kHeads}),
      .a = TensorView(a.data(), DType::kF32, {kHeads}),
      .d = TensorView(d.data(), DType::kF32, {kHeads}),
      .state = TensorView(slots.data(), DType::kF32, {1, kHeads, kDim, kDim}),
      .ring = TensorView(ring.data(), DType::kF32, {1, kRing, kXb + kHeads}),
      .y = Matrix(y, tokens, kHeads * kDim),
      .traffic = &traffic};
  const auto run = [&] {
    steps.Advance();
    params.batch = steps.batch();
    backend->SelectiveStateUpdate(params);
  };
  run();
  // The first token has no state: y = x (d + dt B.C).
  double product = 0;
  for (int64_t n = 0; n < kDim; ++n) product += double{xbc[kGroups * kDim + n]} * xbc[kXb + n];
  CheckNear(y[0], xbc[0] * (d[0] + std::log1p(std::exp(-2.0)) * product), 1e-4);
  for (int i = 0; i < 40; ++i) run();  // there is a state
  traffic = {};
  for (auto _ : state) run();
  Report(state, traffic);
}
BENCHMARK(BM_SelectiveStateUpdate)
    ->ArgNames({"tokens", "threads"})
    ->ArgsProduct({{1, 9, 32}, {1, 2}})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

// range: tokens, threads.
void BM_SelectiveScan(benchmark::State& state) {
  constexpr int64_t kX = 1024, kD = 4096, kN = 16, kTaps = 4, kDrafts = 8;
  const int64_t tokens = state.range(0);
  const auto backend = MakeBackend(static_cast<int>(state.range(1)));
  std::vector<float> x = RandomFloats(tokens * kX, 1), b = RandomFloats(tokens * kX, 2);
  std::vector<float> c = RandomFloats(tokens * kD, 3), dt(tokens * kD, -2.0f), z(tokens * kD, 1.0f);
  std::vector<float> conv_weight = RandomFloats(kTaps * kD, 4), conv_bias(kD), dt_bias(kD);
  std::vector<float> a(kD * kN, -1.0f), d(kD, 1.0f), slots(kD * kN);
  std::vector<float> ring(kDrafts * (kX + kD)), conv_ring((kDrafts + kTaps - 1) * kX);
  std::vector<float> y(tokens * kD);
  Steps steps(static_cast<int32_t>(tokens));
  StateTraffic traffic;
  const auto flat = [](std::vector<float>& values) {
    return TensorView(values.data(), DType::kF32, {static_cast<int64_t>(values.size())});
  };
  SelectiveScanParams params = {
      .x = Matrix(x, tokens, kX),
      .b = Matrix(b, tokens, kX),
      .c = Matrix(c, tokens, kD),
      .dt = Matrix(dt, tokens, kD),
      .z = Matrix(z, tokens, kD),
      .conv_weight = Matrix(conv_weight, kTaps, kD),
      .conv_bias = flat(conv_bias),
      .dt_bias = flat(dt_bias),
      .a = TensorView(a.data(), DType::kF32, {kD / kN, kN, kN}),
      .d = flat(d),
      .state = TensorView(slots.data(), DType::kF32, {1, kD / kN, kN, kN}),
      .ring = TensorView(ring.data(), DType::kF32, {1, kDrafts, kX + kD}),
      .conv_ring = TensorView(conv_ring.data(), DType::kF32, {1, kDrafts + kTaps - 1, kX}),
      .y = Matrix(y, tokens, kD),
      .traffic = &traffic};
  const auto run = [&] {
    steps.Advance();
    params.batch = steps.batch();
    backend->SelectiveScan(params);
  };
  run();
  const auto silu = [](double v) { return v / (1 + std::exp(-v)); };
  double product = 0;
  for (int64_t n = 0; n < kN; ++n) product += double{b[n]} * c[n];
  const double first = silu(double{conv_weight[3 * kD]} * x[0]);
  CheckNear(y[0], first * (1 + std::log1p(std::exp(-2.0)) * product) * silu(1.0), 1e-4);
  traffic = {};
  for (auto _ : state) run();
  Report(state, traffic);
}
BENCHMARK(BM_SelectiveScan)
    ->ArgNames({"tokens", "threads"})
    ->ArgsProduct({{1, 9, 32}, {1, 2}})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

// Mamba2's 6,144 channels. range: tokens, threads.
void BM_CausalConv1d(benchmark::State& state) {
  constexpr int64_t kChannels = 6144, kTaps = 4, kRing = 8 + kTaps - 1;
  const int64_t tokens = state.range(0);
  const auto backend = MakeBackend(static_cast<int>(state.range(1)));
  std::vector<float> x = RandomFloats(tokens * kChannels, 1);
  std::vector<float> weight = RandomFloats(kTaps * kChannels, 2), bias(kChannels);
  std::vector<float> ring(kRing * kChannels), out(tokens * kChannels);
  Steps steps(static_cast<int32_t>(tokens));
  StateTraffic traffic;
  CausalConv1dParams params = {.x = Matrix(x, tokens, kChannels),
                               .weight = Matrix(weight, kTaps, kChannels),
                               .bias = TensorView(bias.data(), DType::kF32, {kChannels}),
                               .ring = TensorView(ring.data(), DType::kF32, {1, kRing, kChannels}),
                               .out = Matrix(out, tokens, kChannels),
                               .traffic = &traffic};
  const auto run = [&] {
    steps.Advance();
    params.batch = steps.batch();
    backend->CausalConv1d(params);
  };
  run();
  const double sum = double{weight[3 * kChannels]} * x[0];
  CheckNear(out[0], sum / (1 + std::exp(-sum)), 1e-5);
  traffic = {};
  for (auto _ : state) run();
  Report(state, traffic);
}
BENCHMARK(BM_CausalConv1d)
    ->ArgNames({"tokens", "threads"})
    ->ArgsProduct({{1, 9}, {1, 2}})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

}  // namespace
}  // namespace krait::kernels
