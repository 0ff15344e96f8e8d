#include "worker/sampling/draw_choice.h"

#include "worker/sampling/candidate_cut.h"

namespace krait {

std::optional<DrawChoice> DrawChoiceOf(const SamplingParams& params) {
  const bool processed =
      params.has_penalties() || !params.logit_bias.empty() || !params.end_ids.empty();
  if (processed || params.num_logprobs >= 0) return std::nullopt;
  if (params.greedy()) return DrawChoice{.temperature = 0};
  return DrawChoice{.seed = params.seed,
                    .top_p = params.top_p < 1 ? TopPShare(params.top_p) : kWholeMass,
                    .choice = params.choice,
                    .temperature = params.temperature,
                    .min_z = MinZ(params.min_p),
                    .top_k = params.top_k};
}

}  // namespace krait
