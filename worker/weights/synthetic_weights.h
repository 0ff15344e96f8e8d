#pragma once

#include <cstdint>
#include <string_view>

namespace krait {

// Weights that nobody trained: a function of (seed, tensor name, index), so that whoever needs one
// can compute it (tests/worker/models/hybrid_oracle.py does too). Scaled so that layers matter and
// recurrent states neither die out nor grow.
class SyntheticTensor {
 public:
  // `row_size`: of the tensor's last dimension, which a matrix sums over.
  SyntheticTensor(uint64_t seed, std::string_view name, int64_t row_size);

  // Element `index`, counted from 0.
  float operator()(int64_t index) const {
    return static_cast<float>(offset_ + factor_ * Uniform(index));
  }
  // In [-1, 1): the top 24 bits of splitmix64 over the index.
  double Uniform(int64_t index) const {
    uint64_t x = static_cast<uint64_t>(index + 1) * 0x9E3779B97F4A7C15ull + start_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    x ^= x >> 31;
    return static_cast<double>(x >> 40) * 0x1p-23 - 1.0;
  }
  double offset() const { return offset_; }
  double factor() const { return factor_; }

 private:
  uint64_t start_;
  double offset_ = 0;
  double factor_ = 1;
};

}  // namespace krait
