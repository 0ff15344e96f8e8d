#include "worker/weights/synthetic_weights.h"

#include <cmath>

#include "absl/strings/match.h"
#include "common/strings.h"

namespace krait {
namespace {

uint64_t NameHash(std::string_view name) {
  uint64_t hash = 14695981039346656037ull;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  return hash;
}

}  // namespace

SyntheticTensor::SyntheticTensor(uint64_t seed, std::string_view name, int64_t row_size)
    : start_(NameHash(name) + seed * 0xD1B54A32D192ED03ull) {
  const auto ends_in = [&](const char* suffix) { return absl::EndsWith(ToAbsl(name), suffix); };
  if (ends_in("norm.weight") || ends_in(".D")) {
    offset_ = 1.0;
    factor_ = 0.2;
  } else if (ends_in("A_log")) {
    offset_ = 1.0;
  } else if (ends_in("dt_bias") || ends_in("dt_proj.bias")) {
    offset_ = -2.0;
  } else if (ends_in("conv1d.weight")) {
    factor_ = 0.5;
  } else if (ends_in("conv1d.bias")) {
    factor_ = 0.1;
  } else {
    factor_ = std::sqrt(3.0 / static_cast<double>(row_size));
  }
}

}  // namespace krait
