#pragma once

#include <cstdint>
#include <variant>
#include <vector>

namespace krait {

// How a model's rotary frequencies theta^(-2i/d) were changed to reach longer contexts.

// Position interpolation (arXiv 2306.15595): every frequency divided by `factor`.
struct LinearRopeScaling {
  float factor = 1;  // at least 1

  bool operator==(const LinearRopeScaling&) const = default;
};

// Llama 3.1: wavelengths longer than original / low_freq_factor are divided by `factor`, those
// shorter than original / high_freq_factor stay, between them the two are mixed.
struct Llama3RopeScaling {
  float factor = 1;  // at least 1
  float low_freq_factor = 1;
  float high_freq_factor = 4;  // above low_freq_factor
  int64_t original_max_positions = 0;

  bool operator==(const Llama3RopeScaling&) const = default;
};

// Frequency i divided by divisors[i]: GGUF's rope_freqs.weight; LongRoPE with one list of factors.
struct RopeDivisors {
  std::vector<float> divisors;  // [head_dim / 2], positive

  bool operator==(const RopeDivisors&) const = default;
};

// The empty alternative: none.
using RopeScaling =
    std::variant<std::monostate, LinearRopeScaling, Llama3RopeScaling, RopeDivisors>;

struct RopeConfig {
  float theta = 10000;
  RopeScaling scaling;

  bool operator==(const RopeConfig&) const = default;
};

}  // namespace krait
