#pragma once

// Weights of a product, Gaussian, and how a backend gets them.

#include "tests/kernels/kernel_test_util.h"

namespace krait::kernels {

struct Problem {
  int64_t n = 0, k = 0, k_blocks = 1;
  DType dtype = DType::kBF16;
  std::vector<float> weights = {};  // [n, k]
};

inline Problem MakeProblem(int64_t n, int64_t k, int64_t k_blocks = 1, DType dtype = DType::kBF16) {
  return {n, k, k_blocks, dtype, Gaussian(n * k, static_cast<uint32_t>(n * 1000 + k), 0.1f)};
}

inline std::unique_ptr<LinearWeight> Prepare(Backend& backend, const Problem& problem) {
  LinearSource source{problem.n, problem.k, problem.k_blocks, problem.dtype, nullptr};
  source.read_rows = [&](int64_t begin, int64_t end, float* out) {
    std::copy(problem.weights.begin() + begin * problem.k,
              problem.weights.begin() + end * problem.k, out);
    return absl::OkStatus();
  };
  auto weight = backend.PrepareLinear(source);
  EXPECT_TRUE(weight.ok()) << weight.status();
  return *std::move(weight);
}

}  // namespace krait::kernels
