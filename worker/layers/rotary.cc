#include "worker/layers/rotary.h"

#include <cmath>
#include <utility>
#include <vector>

#include "common/status_macros.h"

namespace krait {
namespace {

std::vector<float> InverseFrequencies(int64_t head_dim, double theta) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(head_dim);
    frequencies.push_back(1.0f / static_cast<float>(std::pow(theta, double{exponent})));
  }
  return frequencies;
}

}  // namespace

absl::StatusOr<RotaryTables> RotaryTables::Create(int64_t max_positions, int64_t head_dim,
                                                  double theta, Backend* backend) {
  const std::vector<float> frequencies = InverseFrequencies(head_dim, theta);
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
