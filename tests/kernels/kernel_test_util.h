#pragma once

// What the tests of the CPU ops share. Data is Gaussian: numbers of one binade add up without
// rounding, and no wrong order of a sum would show.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/target.h"

namespace krait::kernels {

inline std::vector<float> Gaussian(int64_t n, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = deviation * normal(generator);
  return values;
}

inline TensorView Matrix(std::vector<float>& values, int64_t rows, int64_t columns) {
  EXPECT_EQ(static_cast<int64_t>(values.size()), rows * columns);
  return TensorView(values.data(), DType::kF32, {rows, columns});
}

// Every value's bits, so that NaNs and signs of zero compare too.
inline std::vector<uint32_t> BitsOf(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

struct BackendVariant {
  std::string target;
  int num_threads = 1;
};

inline std::ostream& operator<<(std::ostream& out, const BackendVariant& variant) {
  return out << variant.target << "_" << variant.num_threads;
}

// Every instruction set this machine has, with 1, 2 and 3 threads.
inline std::vector<BackendVariant> AllVariants() {
  std::vector<BackendVariant> variants;
  for (Target target : SupportedTargets()) {
    for (int threads : {1, 2, 3}) variants.push_back({Name(target), threads});
  }
  return variants;
}

inline std::unique_ptr<Backend> MakeBackend(const BackendVariant& variant) {
  return CreateCpuBackend(
      {.index = 0, .num_threads = variant.num_threads, .target = variant.target.c_str()});
}

// The plain twin on one thread: what the others are compared with, bit by bit.
inline BackendVariant PlainVariant() { return {"scalar", 1}; }

}  // namespace krait::kernels
