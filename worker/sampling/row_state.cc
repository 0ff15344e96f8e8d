#include "worker/sampling/row_state.h"

namespace krait {

GumbelKey KeyOf(const RowState& state) {
  return {.seed = state.params->seed, .position = state.position(), .choice = state.params->choice};
}

GumbelRow NoiseRow(const RowState& state, float min_z) {
  const SamplingParams& params = *state.params;
  return {.shard = state.shard,
          .max = state.head.max,
          .temperature = params.greedy() ? 0.0f : params.temperature,
          .min_z = min_z,
          .seed = params.seed,
          .position = state.position(),
          .choice = params.choice};
}

}  // namespace krait
