#include "worker/layers/rotary.h"

#include <cmath>
#include <utility>
#include <vector>

#include "common/status_macros.h"

namespace krait {
namespace {

// theta^(2i/d), the wavelengths over 2 pi.
std::vector<float> Periods(int64_t head_dim, double theta) {
  std::vector<float> periods;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(head_dim);
    periods.push_back(static_cast<float>(std::pow(theta, double{exponent})));
  }
  return periods;
}

// Makes a frequency of a period.
struct Scale {
  size_t pair;  // its number, for tables
  float period;

  float operator()(std::monostate) const { return 1.0f / period; }
  float operator()(const LinearRopeScaling& scaling) const {
    return 1.0f / period / scaling.factor;
  }
  float operator()(const RopeDivisors& scaling) const {
    return 1.0f / (scaling.divisors[pair] * period);
  }
  float operator()(const Llama3RopeScaling& scaling) const {
    const float frequency = 1.0f / period;
    const auto original = static_cast<float>(scaling.original_max_positions);
    const float wavelength = static_cast<float>(2 * M_PI) / frequency;
    if (wavelength > original / scaling.low_freq_factor) return frequency / scaling.factor;
    if (wavelength < original / scaling.high_freq_factor) return frequency;
    const float smooth = (original / wavelength - scaling.low_freq_factor) /
                         (scaling.high_freq_factor - scaling.low_freq_factor);
    return (1.0f - smooth) * frequency / scaling.factor + smooth * frequency;
  }
};

}  // namespace

std::vector<float> RopeFrequencies(int64_t head_dim, const RopeConfig& config) {
  const std::vector<float> periods = Periods(head_dim, config.theta);
  std::vector<float> frequencies;
  for (size_t i = 0; i < periods.size(); ++i) {
    frequencies.push_back(std::visit(Scale{.pair = i, .period = periods[i]}, config.scaling));
  }
  return frequencies;
}

absl::StatusOr<RotaryTables> RotaryTables::Create(int64_t max_positions, int64_t head_dim,
                                                  const RopeConfig& config, Backend* backend) {
  const std::vector<float> frequencies = RopeFrequencies(head_dim, config);
  std::vector<float> cosines, sines;
  cosines.reserve(max_positions * frequencies.size());
  sines.reserve(max_positions * frequencies.size());
  for (int64_t position = 0; position < max_positions; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cosines.push_back(static_cast<float>(std::cos(double{angle})));
      sines.push_back(static_cast<float>(std::sin(double{angle})));
    }
  }
  ASSIGN_OR_RETURN(Tensor cos, backend->Allocate(DType::kF32, {max_positions, head_dim / 2}));
  ASSIGN_OR_RETURN(Tensor sin, backend->Allocate(DType::kF32, {max_positions, head_dim / 2}));
  backend->CopyFromHost(cosines.data(), cos.view());
  backend->CopyFromHost(sines.data(), sin.view());
  return RotaryTables(std::move(cos), std::move(sin));
}

}  // namespace krait
