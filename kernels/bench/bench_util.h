#pragma once

// What the benchmarks share. Each checks its op's result against a plain formula before it times
// it, and reports bytes or operations a second.

#include <benchmark/benchmark.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "common/logging.h"
#include "kernels/backend.h"

namespace krait::kernels {

inline std::vector<float> RandomFloats(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(generator);
  return values;
}

inline TensorView Matrix(std::vector<float>& values, int64_t rows, int64_t columns) {
  CHECK_EQ(static_cast<int64_t>(values.size()), rows * columns);
  return TensorView(values.data(), DType::kF32, {rows, columns});
}

// `target` as in CpuBackendOptions.
inline std::unique_ptr<Backend> MakeBackend(int num_threads, const char* target = "") {
  return CreateCpuBackend({.num_threads = num_threads, .target = target});
}

inline void CheckNear(double value, double expected, double tolerance) {
  CHECK(std::abs(value - expected) <= tolerance) << value << " instead of " << expected;
}

// Reports `bytes` and `operations` of one iteration as rates.
inline void SetRates(benchmark::State& state, double bytes, double operations = 0) {
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount * static_cast<double>(state.iterations()) * 1e-9,
                              benchmark::Counter::kIsRate);
  };
  if (bytes > 0) state.counters["GB/s"] = rate(bytes);
  if (operations > 0) state.counters["Gop/s"] = rate(operations);
}

}  // namespace krait::kernels
